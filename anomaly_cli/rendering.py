"""Arrays -> pictures. The only place where map values become colours."""

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.files.images import AnomalyMap, ColourRange, Mask, RGBImage

# Turbo: perceptually ordered, and its middle (green to yellow) is the threshold.
PALETTE: NDArray[np.uint8] = np.ascontiguousarray(
    np.asarray(
        cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO), np.uint8
    )[:, 0, ::-1]
)  # (256, 3) RGB


# How much of the colour an overlay shows: nothing on a normal part, 65% from the threshold up.
_OPACITY = (0.65 * np.clip(np.arange(256) / 127.5, 0, 1) ** 2).astype(np.float32)


def heat_levels(anomaly_map: AnomalyMap, colour_range: ColourRange) -> NDArray[np.uint8]:
    """Map values (H, W) as levels 0 to 255 of the colour bar, the same bar for every image."""
    low, high = colour_range
    # Clipped, because OpenCV turns huge and infinite values into 0.
    heights = np.clip(anomaly_map, low, high) - low
    return np.asarray(cv2.convertScaleAbs(heights, None, 255.0 / (high - low)))


def heatmap(levels: NDArray[np.uint8]) -> RGBImage:
    """Levels (H, W) as colours (H, W, 3)."""
    return PALETTE[levels]


def overlay(image: RGBImage, levels: NDArray[np.uint8], mask: Mask | None = None) -> RGBImage:
    """The image under its heat, with the contour of the anomaly mask: (H, W, 3).

    Normal areas stay as they are; what is hot is coloured; the contour is white on black.
    """
    opacity = cv2.LUT(levels, _OPACITY)
    blended = cv2.blendLinear(image, heatmap(levels), 1 - opacity, opacity)
    if mask is not None and mask.any():
        contours, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
        )
        width = max(1, round(min(mask.shape) / 256))
        if min(mask.shape) >= 256:  # below, a dark edge would hide small defects
            cv2.drawContours(blended, contours, -1, (0, 0, 0), 3 * width, cv2.LINE_AA)
        cv2.drawContours(blended, contours, -1, (255, 255, 255), width, cv2.LINE_AA)
    return np.asarray(blended, dtype=np.uint8)
