"""Image-level anomaly scores: one number from an anomaly map."""

import math
from typing import NamedTuple

import numpy as np

from anomaly_cli.errors import ConfigError
from anomaly_cli.files.images import AnomalyMap


class ImageScore(NamedTuple):
    """How a map becomes a number: its highest value, or the mean of its highest values."""

    top_share: float = 0.0  # share of the pixels, in (0, 1]; 0 is the maximum alone

    def __str__(self) -> str:
        """As the user types it."""
        return f"top:{self.top_share:g}" if self.top_share else "max"

    def __call__(self, anomaly_map: AnomalyMap) -> float:
        """Score a map (H, W)."""
        count = max(1, math.ceil(self.top_share * anomaly_map.size))
        if count == 1:
            return float(anomaly_map.max())
        highest = np.partition(anomaly_map.ravel(), -count)[-count:]
        return float(highest.mean(dtype=np.float64))


def parse_image_score(text: str) -> ImageScore:
    """Read "max" or "top:SHARE".

    Raises:
        ConfigError: it is neither.
    """
    kind, _, share = text.partition(":")
    try:
        if kind == "top" and 0 < float(share) <= 1:
            return ImageScore(float(share))
    except ValueError:
        pass
    if text != "max":
        raise ConfigError(f"--image-score {text} is not understood; use max or top:0.01")
    return ImageScore()
