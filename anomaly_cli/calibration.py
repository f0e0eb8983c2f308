"""Thresholds and colour scales, from the anomaly maps of held-out normal images alone.

Outlines are from defects that were drawn into them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from anomaly_cli.config.names import Scores
from anomaly_cli.errors import CheckpointError, ConfigError
from anomaly_cli.files.images import AnomalyMap
from anomaly_cli.masks import NO_LEVEL, NO_OUTLINE, MarkedMap, Threshold, fit_outline
from anomaly_cli.rates import rate_range
from anomaly_cli.score_scales import ScoreScale, position_scale, score_scale

RuleKind = Literal["image-fpr", "pixel-fpr", "max"]

# Shares of pixels that lie above the stored quantiles: 1 to 1e-6, twenty steps a decade.
EXCEEDANCE = np.logspace(0, -6, 121)

MAX_NORMAL_SHARE = 0.01  # of normal pixels, that may lie above an outline
MIN_IMAGES_PER_POSITION = 3


class ThresholdRule(NamedTuple):
    """How a threshold is chosen from the maps of held-out normal images."""

    kind: RuleKind
    rate: float = 0.0  # target false-positive rate, in (0, 1); 0 for "max"

    def __str__(self) -> str:
        """As the user types it."""
        return self.kind if self.kind == "max" else f"{self.kind}={self.rate}"


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
    outline: float = NO_OUTLINE  # map value at which drawn defects end; NaN: none were drawn

    def threshold(self, rule: ThresholdRule | float, parts: int | None = None) -> Threshold:
        """The threshold of a rule.

        `image-fpr`: the ceil((N + 1)(1 - rate))-th smallest maximum, so that a new normal image
        exceeds it with a probability of at most `rate` (split conformal prediction, Vovk et al.
        2005). With fewer than 1/rate - 1 images there is no such rank: the `gumbel_limit` of the
        maxima is taken, or the largest of them if that is larger. `pixel-fpr`: the value exceeded
        by `rate` of the pixels. `max`: the largest value.

        Args:
            rule: or a number, which is taken at its word: no outline, and nothing promised.
            parts: of which there are images among the N, for the range of rates; None: N.
        """
        if isinstance(rule, float):
            return Threshold(rule, "given", 0)
        count = len(self.maxima)
        if rule.kind == "pixel-fpr":
            return Threshold(self.exceeded_by(rule.rate), str(rule), count, self.outline)
        rank = count
        if rule.kind == "image-fpr":
            # Rounded, because 150 * (1 - 0.18) = 123.00000000000001 would cost a whole rank.
            rank = math.ceil(round((count + 1) * (1 - rule.rate), 9))
        value, rate = self.maxima[min(rank, count) - 1], 1 - rank / (count + 1)
        if rank > count:
            value, rate = max(value, gumbel_limit(self.maxima, rule.rate)), rule.rate
        rates = rate_range(rate, parts or count)
        return Threshold(float(value), str(rule), count, self.outline, rates)

    @property
    def normal_level(self) -> float:
        """The median of normal pixels, from which the height of a region is counted."""
        return self.exceeded_by(0.5)

    def exceeded_by(self, share: float) -> float:
        """The map value that a share of the pixels exceeds, in [1e-6, 1]."""
        return float(np.interp(share, EXCEEDANCE[::-1], self.quantiles[::-1]))

    def colour_range(self, threshold: Threshold) -> tuple[float, float]:
        """Map values at the two ends of the colour bar: the threshold lies in its middle.

        The lower end is the median of normal pixels, so that a normal part stays cool.
        """
        low = min(self.normal_level, threshold.value)
        # Of a threshold at or below the median, all that exceeds it is at the upper end.
        return low, max(2 * threshold.value - low, low + max(1e-4 * abs(low), 1e-30))


def gumbel_limit(maxima: NDArray[np.float32], rate: float) -> float:
    """What the next maximum exceeds with a probability of about `rate`, by a few maxima (N,).

    The maximum of many values that are alike follows Gumbel's distribution (Fisher and Tippett
    1928). It is fitted by its first two moments, and widened by Student's t for what they are
    uncertain by; with 2 to 38 maxima of that distribution the probability is 1.0 to 1.15 times the
    rate (measured for rates of 0.05 to 0.2). Of a single maximum, which knows no spread, itself.
    """
    count = len(maxima)
    if count < 2:
        return float(maxima[0])
    values = maxima.astype(np.float64)
    scale = float(values.std(ddof=1)) * math.sqrt(6) / math.pi
    widened = float(stdtrit(count - 1, 1 - rate) / ndtri(1 - rate)) * math.sqrt(1 + 1 / count)
    reduced = -math.log(-math.log1p(-rate))
    return float(values.mean() + scale * (reduced * widened - np.euler_gamma))


def calibrate(
    anomaly_maps: Iterable[AnomalyMap],
    defects: Sequence[MarkedMap] = (),
    *,
    is_halved: bool = False,
) -> Calibration:
    """Summarise the maps (H, W) of held-out normal images, and of defects drawn into them.

    Args:
        anomaly_maps: of normal images.
        defects: maps of the same images with a defect drawn in.
        is_halved: whether regions end halfway up from the normal level at the lowest.

    Raises:
        ValueError: there are none.
    """
    maps = list(anomaly_maps)
    if not maps:
        raise ValueError("calibration needs at least one map")
    pixels = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    quantiles = np.quantile(pixels, 1 - EXCEEDANCE, method="higher")
    maxima = np.sort([anomaly_map.max() for anomaly_map in maps])
    normal = Calibration(maxima.astype(np.float32), quantiles.astype(np.float32))
    # Of a map that finds nothing, the best outline would be around the whole image.
    outline = fit_outline(
        defects,
        lowest=normal.exceeded_by(MAX_NORMAL_SHARE),
        normal_level=normal.normal_level if is_halved else NO_LEVEL,
    )
    return replace(normal, outline=outline)


@dataclass(frozen=True)
class MapCalibration:
    """One definition on held-out normal images: its raw values, and two scales of scores."""

    raw: Calibration
    everywhere: ScoreScale  # (1, 1): mean and standard deviation of all pixels
    position: ScoreScale | None = None  # (g, g), for aligned objects; None below three images
    position_scores: Calibration | None = None  # of the scores, each image left out of its scale

    def select(self, scores: Scores) -> tuple[ScoreScale | None, Calibration]:
        """The scale of a kind of scores (None for raw) and the calibration of what it gives.

        Raises:
            CheckpointError: there were too few held-out images for scores per position.
        """
        if scores == "raw":
            return None, self.raw
        if scores == "global":
            mean, std = (part.item() for part in self.everywhere)
            maxima, quantiles = self.raw.maxima, self.raw.quantiles
            return self.everywhere, Calibration(
                np.asarray((maxima - mean) / std, np.float32),
                np.asarray((quantiles - mean) / std, np.float32),
                (self.raw.outline - mean) / std,
            )
        if self.position is None or self.position_scores is None:
            raise CheckpointError(
                f"--scores position needs {MIN_IMAGES_PER_POSITION} held-out normal images, "
                f"and the model was calibrated on {len(self.raw.maxima)}; use global"
            )
        return self.position, self.position_scores


def calibrate_map(
    maps: Sequence[AnomalyMap],
    grid: int,
    defects: Sequence[MarkedMap] = (),
    *,
    is_halved: bool = False,
) -> MapCalibration:
    """Calibrate one definition on its maps (S, S) of held-out normal images.

    Args:
        maps: of one definition.
        grid: side of the map before it was enlarged; scores per position are kept at it.
        defects: maps of the same images with a defect drawn in.
        is_halved: whether regions end halfway up from the normal level at the lowest.

    Raises:
        ValueError: there are no maps.
    """
    raw = calibrate(maps, defects, is_halved=is_halved)
    pixels = np.stack(maps).astype(np.float64)
    everywhere = score_scale(pixels.mean(keepdims=True)[0], pixels.var(keepdims=True)[0])
    if len(maps) < MIN_IMAGES_PER_POSITION:
        return MapCalibration(raw, everywhere)
    small = np.stack([cv2.resize(m, (grid, grid), interpolation=cv2.INTER_AREA) for m in pixels])
    # An image that has shaped its own scale would look too normal: it is left out of it.
    scores = [
        _position_scale(np.delete(small, place, axis=0))(anomaly_map)
        for place, anomaly_map in enumerate(maps)
    ]
    position = _position_scale(small)
    scored = [MarkedMap(position(anomaly_map), mask) for anomaly_map, mask in defects]
    return MapCalibration(raw, everywhere, position, calibrate(scores, scored, is_halved=is_halved))


def _position_scale(maps: NDArray[np.float64]) -> ScoreScale:
    return position_scale(maps.mean(axis=0), maps.var(axis=0), len(maps))
