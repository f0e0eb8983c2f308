"""Thresholds and colour scales, from the anomaly maps of held-out normal images alone.

Outlines are fitted to synthetic defects in these images.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.config.names import Scores
from anomaly_cli.config.values import NO_OUTLINE, ThresholdRule
from anomaly_cli.detector.masks import MarkedMap, fit_outline
from anomaly_cli.detector.scales import ScoreScale, position_scale, score_scale
from anomaly_cli.detector.threshold import (
    NO_LEVEL,
    Threshold,
    gumbel_limit,
    rate_range,
)
from anomaly_cli.errors import CheckpointError
from anomaly_cli.files.images import AnomalyMap

# Shares of pixels that lie above the stored quantiles: 1 to 1e-6, twenty steps a decade.
EXCEEDANCE = np.logspace(0, -6, 121)


MAX_NORMAL_SHARE = 0.01  # largest share of normal pixels that may exceed an outline


MIN_IMAGES_PER_POSITION = 3


@dataclass(frozen=True)
class Calibration:
    """Distribution of the values of one anomaly map on held-out normal images."""

    maxima: NDArray[np.float32]  # (N,), the largest value of each map, ascending
    quantiles: NDArray[np.float32]  # (121,), map values that a share EXCEEDANCE of pixels exceeds
    outline: float = NO_OUTLINE  # map value at which synthetic defects end; NaN: none

    def threshold(self, rule: ThresholdRule | float, parts: int | None = None) -> Threshold:
        """Compute the threshold of a rule.

        `max` is the largest value. `pixel-fpr` is the value that a share `rate` of the pixels
        exceeds. `image-fpr` is the ceil((N + 1)(1 - rate))-th smallest maximum, so that a new
        normal image exceeds it with a probability of at most `rate` (split conformal prediction,
        Vovk et al. 2005). With fewer than 1/rate - 1 images there is no such rank. Then the
        `gumbel_limit` of the maxima is taken, or the largest maximum if that is larger.

        Args:
            rule: the rule. A number is the threshold itself, without an outline and without a
                range of false-positive rates.
            parts: number of different parts on the N images, for the range of false-positive
                rates; None: N.
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
        """Median of the normal pixels, from which the height of a region is measured."""
        return self.exceeded_by(0.5)

    def exceeded_by(self, share: float) -> float:
        """Interpolate the map value that a share of the pixels, in [1e-6, 1], exceeds."""
        return float(np.interp(share, EXCEEDANCE[::-1], self.quantiles[::-1]))

    def colour_range(self, threshold: Threshold) -> tuple[float, float]:
        """Compute the map values at the two ends of the colour bar.

        The threshold lies in the middle. The lower end is the median of normal pixels, so that a
        normal part has cool colours.
        """
        low = min(self.normal_level, threshold.value)
        # If the threshold is not above the median, all values above it get the hottest colour.
        return low, max(2 * threshold.value - low, low + max(1e-4 * abs(low), 1e-30))


def calibrate(
    anomaly_maps: Iterable[AnomalyMap],
    defects: Sequence[MarkedMap] = (),
    *,
    is_halved: bool = False,
) -> Calibration:
    """Summarise the maps of held-out normal images, and fit an outline to synthetic defects.

    Args:
        anomaly_maps: maps (H, W) of normal images.
        defects: maps of the same images with a synthetic defect.
        is_halved: whether a region also ends halfway between the normal level and its own highest
            pixel.

    Raises:
        ValueError: there are no maps of normal images.
    """
    maps = list(anomaly_maps)
    if not maps:
        raise ValueError("calibration needs at least one map")
    pixels = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    quantiles = np.quantile(pixels, 1 - EXCEEDANCE, method="higher")
    maxima = np.sort([anomaly_map.max() for anomaly_map in maps])
    normal = Calibration(maxima.astype(np.float32), quantiles.astype(np.float32))
    # Without a lower limit, a map that finds no defect would get an outline around the whole image.
    outline = fit_outline(
        defects,
        lowest=normal.exceeded_by(MAX_NORMAL_SHARE),
        normal_level=normal.normal_level if is_halved else NO_LEVEL,
    )
    return replace(normal, outline=outline)


@dataclass(frozen=True)
class MapCalibration:
    """Calibration of one anomaly map: its raw values, and two scales of scores."""

    raw: Calibration
    everywhere: ScoreScale  # (1, 1): mean and standard deviation of all pixels
    position: ScoreScale | None = None  # (g, g), for aligned objects; None: too few images
    position_scores: Calibration | None = None  # of scores whose scale leaves their image out

    def select(self, scores: Scores) -> tuple[ScoreScale | None, Calibration]:
        """Select the scale of a kind of scores (None for raw ones) and their calibration.

        Raises:
            CheckpointError: there were too few held-out images for scores per position.
        """
        if scores == "raw":
            return None, self.raw
        if scores == "global":
            mean, std = (part.item() for part in self.everywhere)
            maxima, quantiles = self.raw.maxima, self.raw.quantiles
            with np.errstate(over="ignore"):  # a detector takes no threshold that is not finite
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
    """Calibrate one kind of anomaly map on held-out normal images.

    Args:
        maps: maps (S, S) of the images.
        grid: side g of the maps before they were enlarged, and of the scale per position.
        defects: maps of the same images with a synthetic defect.
        is_halved: whether a region also ends halfway between the normal level and its own highest
            pixel.

    Raises:
        ValueError: there are no maps.
    """
    raw = calibrate(maps, defects, is_halved=is_halved)
    pixels = np.stack(maps).astype(np.float64)
    everywhere = score_scale(pixels.mean(keepdims=True)[0], pixels.var(keepdims=True)[0])
    if len(maps) < MIN_IMAGES_PER_POSITION:
        return MapCalibration(raw, everywhere)
    small = np.stack([cv2.resize(m, (grid, grid), interpolation=cv2.INTER_AREA) for m in pixels])
    # An image would score as too normal on a scale that was fitted to it, so it is left out.
    scores = [
        _position_scale(np.delete(small, place, axis=0))(anomaly_map)
        for place, anomaly_map in enumerate(maps)
    ]
    position = _position_scale(small)
    scored = [MarkedMap(position(anomaly_map), mask) for anomaly_map, mask in defects]
    return MapCalibration(raw, everywhere, position, calibrate(scores, scored, is_halved=is_halved))


def _position_scale(maps: NDArray[np.float64]) -> ScoreScale:
    return position_scale(maps.mean(axis=0), maps.var(axis=0), len(maps))
