"""What anomaly maps find of the defects that were drawn into held-out normal images."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from anomaly_cli.data.painted import PaintedImage
from anomaly_cli.files.images import AnomalyMap
from anomaly_cli.metrics.counts import ExactCounts
from anomaly_cli.metrics.detection import image_metrics, pixel_metrics

# Of `Reached.mean`, less than drawn defects can tell: some 40 of them and as many normal images
# leave an image AUROC uncertain by 0.04.
MARGIN = 0.02
# The same between maps of the same parts, which err alike on the same images.
NARROW_MARGIN = 0.01
HIGHEST_AUROC = 0.9999  # that so few drawn defects can tell from 1


class Reached(NamedTuple):
    """What maps of one kind find of the drawn defects."""

    pixel_auroc: float
    image_auroc: float  # of the maxima of the maps

    @property
    def mean(self) -> float:
        """One map has to tell where a defect is and whether there is one."""
        return (self.pixel_auroc + self.image_auroc) / 2

    @property
    def distance(self) -> float:
        """Between normal and anomalous scores, in standard deviations up to a factor.

        An AUROC of Phi(d / sqrt(2)) belongs to Gaussian scores a distance d apart. The geometric
        mean of that of pixels and of images; 0 for what cannot tell where, or whether.
        """
        return math.sqrt(math.prod(max(ndtri(min(auroc, HIGHEST_AUROC)), 0.0) for auroc in self))


def reach(maps: Iterable[AnomalyMap], validation: Sequence[PaintedImage]) -> Reached:
    """Compare the map (S, S) of each image with its defect; one map at a time is alive."""
    counts, maxima = ExactCounts(), []
    for anomaly_map, image in zip(maps, validation, strict=True):
        counts.update(anomaly_map, image.mask)
        maxima.append(anomaly_map.max())
    labels = np.array([image.mask.any() for image in validation])
    images = image_metrics(np.array(maxima, np.float64), labels)
    return Reached(pixel_metrics(counts.ranking()).pixel_auroc, images.image_auroc)
