"""Anomaly map -> anomaly mask: which regions are anomalous, and how far each of them reaches."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.errors import ConfigError
from anomaly_cli.files.images import AnomalyMap, Mask

NO_OUTLINE = math.nan
NO_LEVEL = math.nan
_TIE = 0.5  # standard errors
_CANDIDATES = 51  # outlines that are tried for each defect: quantiles of its pixels


class Threshold(NamedTuple):
    """A map value above which (`>`) a region is anomalous, and where it comes from."""

    value: float  # NaN calls nothing
    rule: str  # a rule, or "given" for a number that the user typed
    held_out: int  # normal images behind it; 0 for a given number
    outline: float = NO_OUTLINE  # map value at which regions end; NaN: at the threshold
    rates: tuple[float, float] | None = None  # of new normal images that it calls, see `rates`
    normal_level: float = NO_LEVEL  # of normal pixels, above which regions are halved; NaN: are not

    def record(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "threshold": self.value,
            "threshold_rule": self.rule,
            "outline": None if math.isnan(self.outline) else self.outline,
            "normal_level": None if math.isnan(self.normal_level) else self.normal_level,
            "expected_rates": None if self.rates is None else list(self.rates),
        }


class MarkedMap(NamedTuple):
    """The anomaly map of an image whose defect is known."""

    anomaly_map: AnomalyMap  # (H, W)
    mask: Mask  # (H, W)


def parse_outline(text: str) -> float:
    """Read a map value, or "threshold" for regions that end there.

    Raises:
        ConfigError: it is neither.
    """
    if text == "threshold":
        return NO_OUTLINE
    try:
        if math.isfinite(float(text)):
            return float(text)
    except ValueError:
        pass
    raise ConfigError(f"--outline {text} is not understood; use a number, or threshold")


def anomaly_mask(anomaly_map: AnomalyMap, threshold: Threshold) -> Mask:
    """The anomalous regions of a map (H, W); none of an image that the threshold does not call.

    One value cannot both keep good images silent and lie where defects end. So the threshold
    decides that an image is anomalous, and where, and the outline how far its regions reach. Where
    the outline is lower, that is thresholding with hysteresis (Canny 1986). Where it is higher,
    halos are cut off at it, but not above the middle of the threshold and the highest pixel, so
    that a faint defect does not shrink to a dot.

    Where the level of normal pixels is known, a region also ends halfway from it to its own highest
    pixel, if that is higher: the map draws an edge as a slope, and a strong defect's slope reaches
    the outline far outside of it.
    """
    is_above = anomaly_map > threshold.value
    if math.isnan(threshold.outline) or not is_above.any():
        return is_above
    halfway = (threshold.value + float(anomaly_map.max())) / 2
    # In float64, in which the middle of two neighbouring float32 is below the higher one.
    is_inside = anomaly_map > np.float64(min(threshold.outline, halfway))
    labels, is_called = _regions(is_inside, is_above)
    mask = is_called[labels]
    if math.isnan(threshold.normal_level):
        return np.asarray(mask)
    peaks = np.full(len(is_called), -np.inf, np.float32)  # of those called, all above the threshold
    np.maximum.at(peaks, labels[is_above], anomaly_map[is_above])
    ends = (min(threshold.normal_level, threshold.value) + peaks.astype(np.float64)) / 2
    mask[mask] = anomaly_map[mask] > ends[labels[mask]]
    labels, is_called = _regions(mask, is_above)
    return np.asarray(is_called[labels])


def _regions(is_inside: Mask, is_above: Mask) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Labels (H, W) of regions, 0 outside, and which of them have a pixel above the threshold."""
    # 8-connectivity, as regions of the ground truth are labelled.
    count, labels = cv2.connectedComponents(is_inside.view(np.uint8), connectivity=8)
    is_called = np.zeros(count, bool)
    is_called[np.asarray(labels)[is_above & is_inside]] = True
    return np.asarray(labels), is_called


def fit_outline(
    defects: Sequence[MarkedMap], *, lowest: float, normal_level: float = NO_LEVEL
) -> float:
    """The map value at which defects end: that of the highest IoU, as the mean over images.

    Each image counts alike: the IoU of all pixels would be that of large defects alone. Outlines
    within half a standard error of the best (of the difference, image by image) are as good; the
    lowest of them is taken, because drawn defects stand out more than real ones do.

    Args:
        defects: each in its image; those that mark nothing are left out.
        lowest: the outline is at least this.
        normal_level: of normal pixels, where regions end halfway from it at the lowest; NaN where
            they do not.

    Returns:
        NaN where there is no defect to learn from.
    """
    visible = [defect for defect in defects if defect.mask.any()]
    if not visible:
        return NO_OUTLINE
    steps = np.linspace(0, 1, _CANDIDATES)
    inside = [
        np.quantile(anomaly_map[mask], steps, method="lower") for anomaly_map, mask in visible
    ]
    # The next lower number, so that the pixel of that value is still above the outline.
    candidates = np.nextafter(np.unique(inside), np.float32(-np.inf))
    peaks = [defect.anomaly_map[defect.mask].max() for defect in visible]
    ends = [np.fmax(candidates, (normal_level + np.float64(peak)) / 2) for peak in peaks]
    ious = np.array([_ious(*pair) for pair in zip(visible, ends, strict=True)])
    behind = ious[:, [ious.mean(axis=0).argmax()]] - ious
    error = behind.std(axis=0) / math.sqrt(len(visible))
    is_good = behind.mean(axis=0) <= _TIE * error
    return max(float(candidates[is_good.argmax()]), lowest)


def _ious(defect: MarkedMap, ends: NDArray[np.floating]) -> NDArray[np.float64]:
    """IoU of the pixels above each value, (K,)."""
    anomaly_map, mask = defect
    found, wrong = (
        pixels.size - np.searchsorted(np.sort(pixels), ends, side="right")
        for pixels in (anomaly_map[mask], anomaly_map[~mask])
    )
    return np.asarray(found / (mask.sum() + wrong))
