"""Image-level anomaly scores: one number from an anomaly map."""

import math

import numpy as np

from anomaly_cli.config.values import ImageScore
from anomaly_cli.files.images import AnomalyMap


def score_image(anomaly_map: AnomalyMap, how: ImageScore) -> float:
    """Score a map (H, W): its highest value, or the mean of its highest values."""
    count = max(1, math.ceil(how.top_share * anomaly_map.size))
    if count == 1:
        return float(anomaly_map.max())
    highest = np.partition(anomaly_map.ravel(), -count)[-count:]
    return float(highest.mean(dtype=np.float64))
