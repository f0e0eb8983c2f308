"""Resizing of images, masks and maps: each axis by what it needs."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.files.images import AnomalyMap, Mask, RGBImage


def resize_image(image: RGBImage, height: int, width: int) -> RGBImage:
    """Resize to (height, width, 3): an axis that shrinks by area averages, the other bilinearly.

    OpenCV samples points if one axis shrinks and the other grows, so the axes take turns.
    """
    return np.asarray(_resize(image, height, width), np.uint8)


def _resize(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    smaller = (min(height, values.shape[0]), min(width, values.shape[1]))
    if values.shape[:2] != smaller:
        values = cv2.resize(values, smaller[::-1], interpolation=cv2.INTER_AREA)
    if values.shape[:2] != (height, width):
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return values


def resize_mask(mask: Mask, height: int, width: int) -> Mask:
    """Resize to (height, width) by the nearest pixel.

    Bilinear weights below 1 would turn into 0 as bool, and small defects would vanish.
    """
    if mask.shape == (height, width):
        return mask
    # INTER_NEAREST_EXACT samples pixel centres; INTER_NEAREST is shifted by half a pixel.
    resized = cv2.resize(
        mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return np.asarray(resized, dtype=bool)


def resize_mask_by_area(mask: Mask, height: int, width: int) -> Mask:
    """Resize to (height, width) so that each region keeps its share of the image.

    Of a region, those pixels are marked of which it covers most. A region has at least one.
    """
    if mask.shape == (height, width):
        return mask
    resized = np.zeros((height, width), bool)
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    for number in range(1, count):
        region = labels == number
        shares = _resize(region.astype(np.float32), height, width)
        wanted = max(1, round(int(region.sum()) * resized.size / mask.size))
        most = np.argsort(-shares, axis=None, kind="stable")[:wanted]
        resized.flat[most[shares.flat[most] > 0]] = True
    return resized


def resize_map(anomaly_map: AnomalyMap, height: int, width: int) -> AnomalyMap:
    """Resize to (height, width), with aligned pixel centres.

    An axis that shrinks is averaged, the other is interpolated bilinearly.
    """
    return np.asarray(_resize(anomaly_map, height, width), np.float32)


def fit_map(anomaly_map: AnomalyMap, height: int, width: int) -> AnomalyMap:
    """Resize a map to its image, (height, width); the highest value stays.

    `resize_map` takes means, so no value rises above the highest one. That one is written to the
    pixel that it lies in. So a map exceeds a threshold at every size or at none.
    """
    if anomaly_map.shape == (height, width):
        return anomaly_map
    resized = resize_map(anomaly_map, height, width)
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    place = (
        int((row + 0.5) * height / anomaly_map.shape[0]),
        int((column + 0.5) * width / anomaly_map.shape[1]),
    )
    resized[place] = anomaly_map[row, column]
    return resized
