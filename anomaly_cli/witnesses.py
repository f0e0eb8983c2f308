"""How far each part of a fused map is trusted beside its attention, by drawn defects.

Independent witnesses with Gaussian scores are best added in proportion to the distance d between
their normal and their anomalous scores, in standard deviations. An AUROC of Phi(d / sqrt(2))
belongs to it, so that d is known, up to the factor, from the AUROC. A witness has to tell where a
defect is and whether there is one; it counts by the geometric mean of both distances.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from anomaly_cli.data.painted import PaintedImage
from anomaly_cli.fusion import ERROR_WEIGHT, MapSettings, Trust, finish_parts
from anomaly_cli.images import AnomalyMap
from anomaly_cli.maps import MapSpec
from anomaly_cli.metrics.brackets import roc_area
from anomaly_cli.metrics.counts import ExactCounts
from anomaly_cli.metrics.detection import image_metrics

HIGHEST_AUROC = 0.9999  # that so few drawn defects can tell from 1


def trust_parts(
    drawn: Mapping[MapSpec, NDArray[np.float32]],
    spec: MapSpec,
    settings: MapSettings,
    validation: Sequence[PaintedImage],
) -> Trust:
    """The trust in each part of a fused map, in [0, 1]; 1 in the attention.

    Attention has learned from such defects, so no other part is trusted more than it.

    Args:
        drawn: maps (N, S, S) of all parts, as they were drawn.
        spec: the fused map.
        settings: with its scales.
        validation: the N images, with and without a drawn defect.
    """
    images = [
        finish_parts({part: drawn[part][row] for part in spec.parts}, spec, settings)
        for row in range(len(validation))
    ]
    distances = [_distance(maps, validation) for maps in zip(*images, strict=True)]
    attention, appearance, error = distances
    if attention == 0:
        return Trust()
    return Trust(
        appearance=min(appearance / attention, 1.0),
        # Whose scores are halved: as much as that counts in full.
        reconstruction=min(error / attention / ERROR_WEIGHT, 1.0),
    )


def _distance(maps: Sequence[AnomalyMap], validation: Sequence[PaintedImage]) -> float:
    """Between normal and anomalous scores, up to a factor; 0 for what tells nothing."""
    counts = ExactCounts()
    for anomaly_map, image in zip(maps, validation, strict=True):
        counts.update(anomaly_map, image.mask)
    labels = np.array([image.mask.any() for image in validation])
    maxima = np.array([anomaly_map.max() for anomaly_map in maps])
    aurocs = (roc_area(counts.ranking()).value, image_metrics(maxima, labels).image_auroc)
    return math.sqrt(math.prod(max(ndtri(min(auroc, HIGHEST_AUROC)), 0.0) for auroc in aurocs))
