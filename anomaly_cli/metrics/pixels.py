"""Checks, keys and regions of one anomaly map with its ground-truth mask."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.errors import DataError
from anomaly_cli.metrics.keys import score_keys


class PixelKeys(NamedTuple):
    """Keys of the scores of one image, row by row."""

    positive: NDArray[np.uint32]  # (P,) anomalous pixels
    negative: NDArray[np.uint32]  # (N,) normal pixels


class Regions(NamedTuple):
    """Connected anomalous regions of one mask; pixels that touch at a corner are connected."""

    labels: NDArray[np.int64]  # (P,) region of each anomalous pixel, row by row, from 0
    areas: NDArray[np.int64]  # (R,) pixels


def check_pixels(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], *, name: str) -> None:
    """Refuse a map that cannot be ranked: no pixels, another shape than its mask, or NaN.

    Args:
        anomaly_map: scores, shape (H, W) float32.
        mask: ground truth, shape (H, W) bool.
        name: of the map in error messages.

    Raises:
        DataError: NaN among the scores, no pixels, or shapes that differ.
        ValueError: types other than those above.
    """
    if anomaly_map.dtype != np.float32 or mask.dtype != np.bool_:
        raise ValueError(
            f"expected a float32 map and a bool mask, got {anomaly_map.dtype} and {mask.dtype}"
        )
    if anomaly_map.ndim != 2 or anomaly_map.size == 0:
        raise DataError(f"{name} has shape {anomaly_map.shape}; expected (height, width)")
    if anomaly_map.shape != mask.shape:
        raise DataError(f"{name} has shape {anomaly_map.shape} but its mask {mask.shape}")
    if np.isnan(anomaly_map.max()):  # max returns NaN if there is one, and is the cheapest test
        count = int(np.isnan(anomaly_map).sum())
        raise DataError(f"{name} has {count} NaN among {anomaly_map.size} scores")


def split_pixels(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> PixelKeys:
    """Compute the keys of the anomalous and of the normal pixels of a checked map."""
    keys = score_keys(anomaly_map)
    return PixelKeys(positive=keys[mask], negative=keys[~mask])


def find_regions(mask: NDArray[np.bool_]) -> Regions:
    """Label the anomalous pixels of a mask (H, W) by connected region."""
    if not mask.any():
        return Regions(labels=np.zeros(0, np.int64), areas=np.zeros(0, np.int64))
    # 8-connectivity, as the evaluation script of MVTec AD labels its regions.
    _, labelled = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    labels = np.asarray(labelled, dtype=np.int32)[mask].astype(np.int64) - 1  # 0 is background
    return Regions(labels=labels, areas=np.bincount(labels))
