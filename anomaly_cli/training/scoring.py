"""Scores of anomaly maps on synthetic defects in held-out normal images."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from anomaly_cli.files.images import AnomalyMap
from anomaly_cli.metrics.detection import image_metrics, pixel_metrics
from anomaly_cli.metrics.images import pool_pixels, rank_pixels, sort_pixels
from anomaly_cli.training.painted import PaintedImage

# Largest difference of `DefectScore.mean` that means nothing between maps of the same images, which
# make the same mistakes.
MARGIN = 0.01


class DefectScore(NamedTuple):
    """AUROCs of one kind of map on the synthetic defects."""

    pixel_auroc: float
    image_auroc: float  # of the maxima of the maps

    @property
    def mean(self) -> float:
        """Mean of both AUROCs: a map has to show where a defect is and whether there is one."""
        return (self.pixel_auroc + self.image_auroc) / 2


def score_maps(maps: Iterable[AnomalyMap], validation: Sequence[PaintedImage]) -> DefectScore:
    """Score maps (S, S) by the defects of their images; only one map at a time is in memory."""
    pools, maxima = [], []
    for anomaly_map, image in zip(maps, validation, strict=True):
        pools.append(sort_pixels(anomaly_map, image.mask).pixels)
        maxima.append(anomaly_map.max())
    labels = np.array([image.mask.any() for image in validation])
    images = image_metrics(np.array(maxima, np.float64), labels)
    pixels = pixel_metrics(rank_pixels([pool_pixels(pools)]))
    return DefectScore(pixels.pixel_auroc, images.image_auroc)
