"""How far each part of a fused map is trusted beside the others, by drawn defects.

Independent witnesses with Gaussian scores are best added in proportion to the distance d between
their normal and their anomalous scores, in standard deviations: `Reached.distance`. A witness has
to tell where a defect is and whether there is one. Real scores are neither independent nor
Gaussian, and beside a much better witness a worse one may add nothing but noise: then drawn defects
may say that powers of the distances are better.
"""

from collections.abc import Mapping, Sequence

from anomaly_cli.data.painted import PaintedImage
from anomaly_cli.files.images import AnomalyMap
from anomaly_cli.fusion import (
    CONTEXT_WEIGHT,
    ERROR_WEIGHT,
    MapSettings,
    Trust,
    add_parts,
    by_image,
    finish_parts,
    weigh_parts,
)
from anomaly_cli.maps import MapSpec
from anomaly_cli.reached import NARROW_MARGIN, reach

SHARPNESS = (1, 2, 4, 8)  # powers of the distances


def trust_parts(
    drawn: Mapping[MapSpec, Sequence[AnomalyMap]],
    spec: MapSpec,
    settings: MapSettings,
    validation: Sequence[PaintedImage],
) -> Trust:
    """The trust in each part of a fused map, in [0, 1]; attention or appearance, the better, has 1.

    Args:
        drawn: N maps (S, S) of each part, as they were drawn.
        spec: the fused map.
        settings: with its scales.
        validation: the N images, with and without a drawn defect.
    """
    images = [finish_parts(parts, spec, settings) for parts in by_image(drawn, spec)]
    distances = [reach(maps, validation).distance for maps in zip(*images, strict=True)]
    sharpened = [by_distances(distances, power) for power in SHARPNESS]
    means = [
        reach((add_parts(weigh_parts(parts, each)) for parts in images), validation).mean
        for each in sharpened
    ]
    is_good = [mean >= max(means) - NARROW_MARGIN for mean in means]
    return sharpened[is_good.index(True)]


def by_distances(distances: Sequence[float], power: int) -> Trust:
    """The trust in proportion to a power of the distances, which are in the order of `Trust`."""
    best = max(distances[:2])
    if best == 0:
        return Trust()
    attention, appearance, context, error = ((d / best) ** power for d in distances)
    # The scores of context and error are halved: as much as that counts in full, and no more. Of
    # the powers, not before: what could count in full twice over would hardly be turned down.
    return Trust(
        attention,
        appearance,
        min(context / CONTEXT_WEIGHT, 1.0),
        min(error / ERROR_WEIGHT, 1.0),
    )
