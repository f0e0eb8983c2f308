"""Thresholds and colour scales, from the anomaly maps of held-out normal images alone."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.errors import ConfigError
from anomaly_cli.images import AnomalyMap

RuleKind = Literal["image-fpr", "pixel-fpr", "max"]

# Shares of pixels that lie above the stored quantiles: 1 to 1e-6, twenty steps a decade.
EXCEEDANCE = np.logspace(0, -6, 121)


class ThresholdRule(NamedTuple):
    """How a threshold is chosen from the maps of held-out normal images."""

    kind: RuleKind
    rate: float = 0.0  # target false-positive rate, in (0, 1); 0 for "max"

    def __str__(self) -> str:
        """As the user types it."""
        return self.kind if self.kind == "max" else f"{self.kind}={self.rate}"


class Threshold(NamedTuple):
    """A map value above which (`>`) a pixel is anomalous, and where it comes from."""

    value: float
    rule: str  # a rule, or "given" for a number that the user typed
    held_out: int  # normal images behind it; 0 for a given number


def parse_threshold(text: str) -> ThresholdRule | float:
    """Read "max", "image-fpr=RATE", "pixel-fpr=RATE" or a number.

    Raises:
        ConfigError: it is none of these.
    """
    kind, _, rate = text.partition("=")
    try:
        if kind in {"image-fpr", "pixel-fpr"} and 0 < float(rate) < 1:
            return ThresholdRule("image-fpr" if kind == "image-fpr" else "pixel-fpr", float(rate))
        if kind == "max" and not rate:
            return ThresholdRule("max")
        if math.isfinite(float(text)):
            return float(text)
    except ValueError:
        pass
    raise ConfigError(
        f"--threshold {text} is not understood; use a number, max, image-fpr=0.05 or pixel-fpr=0.01"
    )


@dataclass(frozen=True)
class Calibration:
    """How the anomaly map of one definition looks on held-out normal images."""

    maxima: NDArray[np.float32]  # (N,), the largest value of each map, ascending
    quantiles: NDArray[np.float32]  # (121,), map values that a share EXCEEDANCE of pixels exceeds

    def threshold(self, rule: ThresholdRule | float) -> Threshold:
        """The threshold of a rule.

        `image-fpr`: the ceil((N + 1)(1 - rate))-th smallest maximum, so that a new normal image
        exceeds it with a probability of at most `rate` (split conformal prediction, Vovk et al.
        2005). With fewer than 1/rate - 1 images there is no such rank, and the largest is taken:
        the probability is then 1 / (N + 1). `pixel-fpr`: the value exceeded by `rate` of the
        pixels. `max`: the largest value.
        """
        if isinstance(rule, float):
            return Threshold(rule, "given", 0)
        count = len(self.maxima)
        if rule.kind == "pixel-fpr":
            order = np.argsort(EXCEEDANCE)
            value = np.interp(rule.rate, EXCEEDANCE[order], self.quantiles[order])
        elif rule.kind == "image-fpr":
            # Rounded, because 150 * (1 - 0.18) = 123.00000000000001 would cost a whole rank.
            rank = math.ceil(round((count + 1) * (1 - rule.rate), 9))
            value = self.maxima[min(rank, count) - 1]
        else:
            value = self.maxima[-1]
        return Threshold(float(value), str(rule), count)

    def colour_range(self, threshold: Threshold) -> tuple[float, float]:
        """Map values at the two ends of the colour bar: the threshold lies in its middle.

        The lower end is the median of normal pixels, so that a normal part stays cool.
        """
        low = float(np.interp(0.5, EXCEEDANCE[::-1], self.quantiles[::-1]))
        low = min(low, threshold.value)
        # Of a threshold at or below the median, all that exceeds it is at the upper end.
        return low, max(2 * threshold.value - low, low + max(1e-4 * abs(low), 1e-30))


def calibrate(anomaly_maps: Iterable[AnomalyMap]) -> Calibration:
    """Summarise the maps (H, W) of held-out normal images.

    Raises:
        ValueError: there are none.
    """
    maps = list(anomaly_maps)
    if not maps:
        raise ValueError("calibration needs at least one map")
    pixels = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    quantiles = np.quantile(pixels, 1 - EXCEEDANCE, method="higher")
    maxima = np.sort([anomaly_map.max() for anomaly_map in maps])
    return Calibration(maxima.astype(np.float32), quantiles.astype(np.float32))
