"""How far each part of a fused map is trusted beside its attention, by drawn defects.

Independent witnesses with Gaussian scores are best added in proportion to the distance d between
their normal and their anomalous scores, in standard deviations: `Reached.distance`. A witness has
to tell where a defect is and whether there is one.
"""

from collections.abc import Mapping, Sequence

from anomaly_cli.data.painted import PaintedImage
from anomaly_cli.fusion import ERROR_WEIGHT, MapSettings, Trust, by_image, finish_parts
from anomaly_cli.images import AnomalyMap
from anomaly_cli.maps import MapSpec
from anomaly_cli.reached import reach


def trust_parts(
    drawn: Mapping[MapSpec, Sequence[AnomalyMap]],
    spec: MapSpec,
    settings: MapSettings,
    validation: Sequence[PaintedImage],
) -> Trust:
    """The trust in each part of a fused map, in [0, 1]; 1 in the attention.

    Attention has learned from such defects, so no other part is trusted more than it.

    Args:
        drawn: N maps (S, S) of each part, as they were drawn.
        spec: the fused map.
        settings: with its scales.
        validation: the N images, with and without a drawn defect.
    """
    images = [finish_parts(parts, spec, settings) for parts in by_image(drawn, spec)]
    attention, appearance, error = (
        reach(maps, validation).distance for maps in zip(*images, strict=True)
    )
    if attention == 0:
        return Trust()
    return Trust(
        appearance=min(appearance / attention, 1.0),
        # Whose scores are halved: as much as that counts in full.
        reconstruction=min(error / attention / ERROR_WEIGHT, 1.0),
    )
