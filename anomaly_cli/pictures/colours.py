"""Colours of anomaly maps: heatmaps and overlays. Only this file turns map values into colours."""

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


# Opacity of the colours of an overlay: 0 at the lowest level, 65% from the threshold up.
_OPACITY = (0.65 * np.clip(np.arange(256) / 127.5, 0, 1) ** 2).astype(np.float32)


def heat_levels(anomaly_map: AnomalyMap, colour_range: ColourRange) -> NDArray[np.uint8]:
    """Convert map values (H, W) to levels 0 to 255 of the colour bar that all images share."""
    low, high = colour_range
    # Clipped, because OpenCV turns huge and infinite values into 0.
    heights = np.clip(anomaly_map, low, high) - low
    return np.asarray(cv2.convertScaleAbs(heights, None, 255.0 / (high - low)))


def heatmap(levels: NDArray[np.uint8]) -> RGBImage:
    """Convert levels (H, W) to colours (H, W, 3)."""
    return np.asarray(cv2.applyColorMap(levels, PALETTE[:, None]), np.uint8)


def overlay(image: RGBImage, levels: NDArray[np.uint8], mask: Mask | None = None) -> RGBImage:
    """Blend an image with its heatmap, and draw the contour of the anomaly mask: (H, W, 3).

    Areas with low levels stay as they are. The contour is white on black.
    """
    opacity = cv2.LUT(levels, _OPACITY)
    blended = cv2.blendLinear(image, heatmap(levels), 1 - opacity, opacity)
    if mask is not None and mask.any():
        contours, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
        )
        width = max(1, round(min(mask.shape) / 256))
        if min(mask.shape) >= 256:  # in smaller images a dark edge would hide small defects
            cv2.drawContours(blended, contours, -1, (0, 0, 0), 3 * width, cv2.LINE_AA)
        cv2.drawContours(blended, contours, -1, (255, 255, 255), width, cv2.LINE_AA)
    return np.asarray(blended, dtype=np.uint8)
