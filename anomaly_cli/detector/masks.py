"""Anomaly masks: which regions of an anomaly map are anomalous, and where each of them ends."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.config.values import NO_OUTLINE
from anomaly_cli.detector.threshold import NO_LEVEL, Threshold
from anomaly_cli.files.images import AnomalyMap, Mask

_TIE = 0.5  # standard errors within which two outlines are equally good


_CANDIDATES = 51  # outlines that are tried for each defect: quantiles of its pixels


class MarkedMap(NamedTuple):
    """The anomaly map of an image whose defect is known."""

    anomaly_map: AnomalyMap  # (H, W)
    mask: Mask  # (H, W)


def anomaly_mask(anomaly_map: AnomalyMap, threshold: Threshold) -> Mask:
    """Mark the anomalous regions of a map (H, W); there are none if no pixel exceeds the threshold.

    One value cannot both avoid false alarms and lie where defects end. So the threshold decides
    whether and where an image is anomalous, and the outline decides where its regions end. If the
    outline is lower than the threshold, this is thresholding with hysteresis (Canny 1986). If it is
    higher, it cuts off halos. But it is lowered to the middle between the threshold and the highest
    pixel if necessary, so that a faint defect does not shrink to a dot.

    If the level of normal pixels is known, a region also ends halfway between that level and its
    own highest pixel, if this is higher. For an edge is a slope in the map, and the slope around a
    strong defect exceeds the outline far outside of the defect.
    """
    is_above = anomaly_map > threshold.value
    if math.isnan(threshold.outline) or not is_above.any():
        return is_above
    halfway = (threshold.value + float(anomaly_map.max())) / 2
    # In float64, so that the middle of two neighbouring float32 numbers is below the higher one.
    is_inside = anomaly_map > np.float64(min(threshold.outline, halfway))
    labels, is_called = _regions(is_inside, is_above)
    mask = is_called[labels]
    if math.isnan(threshold.normal_level):
        return np.asarray(mask)
    # Highest pixels of the anomalous regions, which are all above the threshold.
    peaks = np.full(len(is_called), -np.inf, np.float32)
    np.maximum.at(peaks, labels[is_above], anomaly_map[is_above])
    ends = (min(threshold.normal_level, threshold.value) + peaks.astype(np.float64)) / 2
    mask[mask] = anomaly_map[mask] > ends[labels[mask]]
    labels, is_called = _regions(mask, is_above)
    return np.asarray(is_called[labels])


def _regions(is_inside: Mask, is_above: Mask) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Label regions (H, W), 0 outside, and find those with a pixel above the threshold."""
    # 8-connectivity, because regions of the ground truth are labelled with it too.
    count, labels = cv2.connectedComponents(is_inside.view(np.uint8), connectivity=8)
    is_called = np.zeros(count, bool)
    is_called[np.asarray(labels)[is_above & is_inside]] = True
    return np.asarray(labels), is_called


def fit_outline(
    defects: Sequence[MarkedMap], *, lowest: float, normal_level: float = NO_LEVEL
) -> float:
    """Find the map value at which defects end: the one with the highest mean IoU over images.

    Each image counts alike, because the IoU of the pixels of all images would be that of large
    defects alone. Outlines within half a standard error of the best are equally good (the standard
    error of the difference, image by image). The lowest of them is taken, because synthetic defects
    stand out more than real ones.

    Args:
        defects: maps of images with one defect each; those that mark no pixel are left out.
        lowest: the least outline.
        normal_level: level of normal pixels, if a region also ends halfway between it and the
            region's highest pixel; otherwise NaN.

    Returns:
        The outline; NaN if there is no defect.
    """
    visible = [defect for defect in defects if defect.mask.any()]
    if not visible:
        return NO_OUTLINE
    steps = np.linspace(0, 1, _CANDIDATES)
    inside = [
        np.quantile(anomaly_map[mask], steps, method="lower") for anomaly_map, mask in visible
    ]
    # The next lower float, so that the pixel with that value still exceeds the outline.
    candidates = np.nextafter(np.unique(inside), np.float32(-np.inf))
    peaks = [defect.anomaly_map[defect.mask].max() for defect in visible]
    ends = [np.fmax(candidates, (normal_level + np.float64(peak)) / 2) for peak in peaks]
    ious = np.array([_ious(*pair) for pair in zip(visible, ends, strict=True)])
    behind = ious[:, [ious.mean(axis=0).argmax()]] - ious
    error = behind.std(axis=0) / math.sqrt(len(visible))
    is_good = behind.mean(axis=0) <= _TIE * error
    return max(float(candidates[is_good.argmax()]), lowest)


def _ious(defect: MarkedMap, ends: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the IoU of the defect and the pixels above each of K values, (K,)."""
    anomaly_map, mask = defect
    found, wrong = (
        pixels.size - np.searchsorted(np.sort(pixels), ends, side="right")
        for pixels in (anomaly_map[mask], anomaly_map[~mask])
    )
    return np.asarray(found / (mask.sum() + wrong))
