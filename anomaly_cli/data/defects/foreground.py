"""Foreground of a normal image: the object, which differs in colour from the image's border.

The image is shrunk to 64 x 64 pixels. The background's colour is the median of the border (4 px
wide). A pixel's distance is its largest difference from that colour in any channel, and Otsu's
threshold of the distances splits the image. The pixels above the threshold are an object if they

- cover 3% to 90% of the image,
- are on average at least 20 grey levels farther from the background than the other pixels,
- explain at least 78% of the variance of the distances (a mere ramp of light explains 75%), and
- are at least twice as frequent in the middle as on the border.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.files.images import Mask, RGBImage

SIDE = 64  # pixels; side of the shrunk image
BORDER = 4  # pixels of the shrunk image
MAX_ON_BORDER = 0.5  # share of foreground there, as of a zipper's ends, over that in the middle
MIN_SHARE, MAX_SHARE = 0.03, 0.9  # of the image
MIN_SEPARATION = 0.78  # variance between the groups as a share of all; 0.75 for a ramp of light
MIN_CONTRAST = 20.0  # grey levels between the means of the groups

EXAMINED = 12  # normal images at least, spread over all, that decide whether there is a foreground
MOST = 0.75  # more than this share of them must show an object


def has_foreground(normals: Sequence[RGBImage]) -> bool:
    """Check whether most of the normal images (H, W, 3) show an object on a background."""
    step = max(1, len(normals) // EXAMINED)
    found = [foreground_mask(image) is not None for image in normals[::step]]
    return sum(found) > MOST * len(found)


def foreground_mask(image: RGBImage) -> Mask | None:
    """Find the object in a normal image (H, W, 3), or in a mean of normal images.

    Returns:
        (H, W) bool, holes filled; None if border and middle are alike, as in textures.
    """
    small = np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    small = np.asarray(cv2.medianBlur(small, 3), np.uint8)
    rim = np.ones((SIDE, SIDE), bool)
    rim[BORDER:-BORDER, BORDER:-BORDER] = False
    background = np.median(small[rim], axis=0)
    distance = np.abs(small - np.float32(background)).max(axis=2)
    threshold, inside = cv2.threshold(
        np.rint(distance).astype(np.uint8), 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU
    )
    is_inside = distance > threshold
    if not _is_object(distance, is_inside, rim):
        return None
    filled = _fill(np.asarray(inside, np.uint8)) * np.uint8(255)
    large = cv2.resize(filled, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    mask = np.asarray(large) > 127
    return mask if mask.any() else None  # thin lines vanish in images smaller than 64 pixels


def _is_object(distance: NDArray[np.float32], is_inside: Mask, rim: Mask) -> bool:
    share = float(is_inside.mean())
    middle = is_inside[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4].mean()
    if not MIN_SHARE <= share <= MAX_SHARE or is_inside[rim].mean() > MAX_ON_BORDER * middle:
        return False
    gap = float(distance[is_inside].mean() - distance[~is_inside].mean())
    between = share * (1 - share) * gap**2
    return gap >= MIN_CONTRAST and between >= MIN_SEPARATION * float(distance.var())


def _fill(inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Close gaps and fill holes, because a bottle's bright bottom belongs to the bottle."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, kernel)
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = np.zeros_like(closed)
    return np.asarray(cv2.drawContours(filled, contours, -1, (1,), cv2.FILLED), np.uint8)
