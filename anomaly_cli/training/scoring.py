"""Scores of anomaly maps on synthetic defects in held-out normal images."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from anomaly_cli.files.images import AnomalyMap
from anomaly_cli.metrics.detection import image_metrics, pixel_metrics
from anomaly_cli.metrics.images import pool_pixels, rank_pixels, sort_pixels
from anomaly_cli.training.painted import PaintedImage

# Largest difference of `DefectScore.mean` that means nothing: with some 40 defects and as many
# normal images, an image AUROC is uncertain by 0.04.
MARGIN = 0.02
# Smaller between maps of the same parts, because these make the same mistakes on the same images.
NARROW_MARGIN = 0.01
HIGHEST_AUROC = 0.9999  # so few defects cannot show a difference between this and 1


class DefectScore(NamedTuple):
    """AUROCs of one kind of map on the synthetic defects."""

    pixel_auroc: float
    image_auroc: float  # of the maxima of the maps

    @property
    def mean(self) -> float:
        """Mean of both AUROCs: a map has to show where a defect is and whether there is one."""
        return (self.pixel_auroc + self.image_auroc) / 2

    @property
    def distance(self) -> float:
        """Distance of anomalous from normal scores, in standard deviations up to a factor.

        An AUROC of Phi(d / sqrt(2)) belongs to Gaussian scores a distance d apart. This is the
        geometric mean of the distances of pixels and of images; 0 if either is not above chance.
        """
        return math.sqrt(math.prod(max(ndtri(min(auroc, HIGHEST_AUROC)), 0.0) for auroc in self))


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
