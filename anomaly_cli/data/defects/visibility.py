"""Exact masks of synthetic defects: invisible changes are undone, and pinholes are closed."""

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.defects.canvas import Change, DefectKind, SyntheticDefect, as_colour
from anomaly_cli.data.defects.shapes import pixel_unit
from anomaly_cli.files.images import RGBImage

MIN_DIFFERENCE = 4  # grey levels of the most changed channel; fainter changes are undone
MIN_AREA = 8  # pixels
CLEAR_DIFFERENCE = 12  # grey levels; 1.5 times the ground's own roughness is added
CLEAR_SHARE = 0.1  # least share of a defect's pixels that differ clearly

# Strokes keep their width. In all other kinds, wider gaps inside are closed and specks beside the
# defect are undone, as an annotator would do.
_THIN = frozenset({DefectKind.SCRATCH, DefectKind.CUT})


def apply_change(
    image: RGBImage, change: Change, kind: DefectKind, *, is_grey: bool
) -> SyntheticDefect | None:
    """Apply a change to a copy of the image, and find exactly the pixels that differ.

    A pinhole is a pixel inside the defect whose new value happens to be near the old one. An
    annotator would not leave it out, so it is changed by the smallest visible difference.

    Returns:
        The defect; None if it is too small or too faint to be distinguished from the ground.
    """
    drawn = change.drawn
    if is_grey:  # a monochrome camera sees no coloured defect
        drawn = as_colour(np.asarray(cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)))
    # OpenCV rounds, clips at 255 and copies by mask many times faster than numpy.
    changed = np.asarray(cv2.convertScaleAbs(np.maximum(drawn, 0)), np.uint8)
    old = np.asarray(np.ascontiguousarray(change.box.cut(image)), np.uint8)
    visible = _differs(changed, old, MIN_DIFFERENCE)
    unit = pixel_unit((image.shape[0], image.shape[1]))
    mask = _tidy(visible, kind, unit)
    if not _is_clear(changed, old, mask, unit):
        return None
    pinholes = (mask > 0) & (visible == 0)
    values = old[pinholes]
    changed[pinholes] = np.where(values < 128, values + MIN_DIFFERENCE, values - MIN_DIFFERENCE)
    result, whole = image.copy(), np.zeros(image.shape[:2], bool)
    change.box.cut(result)[:] = cv2.copyTo(changed, mask, old.copy())
    change.box.cut(whole)[:] = mask > 0
    return SyntheticDefect(result, whole, kind)


def _differs(new: RGBImage, old: RGBImage, by: float) -> NDArray[np.uint8]:
    """Mark pixels with 255 where any channel differs by at least `by`, else with 0."""
    faint = cv2.inRange(cv2.absdiff(new, old), (0, 0, 0), (by - 1,) * 3)
    return np.asarray(cv2.bitwise_not(faint), np.uint8)


def _is_clear(new: RGBImage, old: RGBImage, mask: NDArray[np.uint8], unit: float) -> bool:
    """Check whether a defect is large enough and partly exceeds the ground's own grain.

    Defects that nowhere exceed the grain would train a detector to detect grain.
    """
    area = cv2.countNonZero(mask)
    if area < MIN_AREA:
        return False
    smooth = cv2.GaussianBlur(old, (0, 0), max(1.0, 1.5 * unit))
    roughness = max(cv2.mean(cv2.absdiff(old, smooth), mask)[:3])
    clear = _differs(new, old, round(CLEAR_DIFFERENCE + 1.5 * roughness))
    return cv2.countNonZero(clear & mask) >= CLEAR_SHARE * area


def _tidy(visible: NDArray[np.uint8], kind: DefectKind, unit: float) -> NDArray[np.uint8]:
    is_thin = kind in _THIN
    closed = _morph(visible, cv2.MORPH_CLOSE, max(1, round(unit if is_thin else 2.5 * unit)))
    closed |= visible
    if is_thin:
        return closed
    opened = _morph(closed, cv2.MORPH_OPEN, max(1, round(unit)))
    return opened if opened.any() else closed


def _morph(mask: NDArray[np.uint8], operation: int, radius: int) -> NDArray[np.uint8]:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return np.asarray(cv2.morphologyEx(mask, operation, kernel), np.uint8)
