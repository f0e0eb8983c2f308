"""Choose a model's map without a label: by defects drawn into held-out normal images."""

from collections.abc import Collection, Sequence
from itertools import product
from typing import NamedTuple

from anomaly_cli.data.painted import PaintedImage, painted_batches
from anomaly_cli.drawing import MapMaker, draw_all
from anomaly_cli.fusion import MapSettings, by_image, finish_map
from anomaly_cli.maps import MapSpec
from anomaly_cli.reached import MARGIN, Reached, reach
from anomaly_cli.witnesses import trust_parts


class SelectedMap(NamedTuple):
    """The chosen map, and what each candidate reached."""

    spec: MapSpec
    settings: MapSettings
    reached: dict[str, Reached]  # by name of the map and smoothing, on the drawn defects


def select_map(
    maker: MapMaker,
    specs: Sequence[MapSpec],
    settings: Sequence[MapSettings],
    validation: Sequence[PaintedImage],
    *,
    batch_size: int,
    favoured: Collection[MapSpec] = (),
) -> SelectedMap:
    """The candidate with the highest mean of pixel and image AUROC on drawn defects.

    The first of equal ones; the best of the favoured ones, unless another is better than it by more
    than `MARGIN`.

    Args:
        maker: draws the maps.
        specs: maps to choose from.
        settings: what can be done to them, each tried with every map; the trust in the parts of
            fused maps is found here.
        validation: held-out normal images with and without a drawn defect.
        batch_size: images at once.
        favoured: some of `specs`.
    """
    drawn = draw_all(maker.draw, painted_batches(validation, batch_size), specs)
    # Of the parts as they are: that they are smoothed changes little of what they can tell.
    trusts = {
        spec.source: trust_parts(drawn, spec, settings[0], validation)
        for spec in specs
        if spec.is_fused
    }
    settings = [setting._replace(trusts=trusts) for setting in settings]
    reached: dict[str, Reached] = {}
    found: list[tuple[Reached, MapSpec, MapSettings]] = []
    for spec, setting in product(specs, settings):
        maps = (finish_map(parts, spec, setting) for parts in by_image(drawn, spec))
        value = reach(maps, validation)  # of one candidate at a time, for the sake of memory
        reached[f"{spec}, smoothing {setting.smoothing:g} px"] = value
        found.append((value, spec, setting))
    best = max(found, key=lambda row: row[0].mean)
    own = [row for row in found if row[1] in favoured]
    suits = max(own, key=lambda row: row[0].mean, default=best)
    if suits[0].mean >= best[0].mean - MARGIN:
        best = suits
    return SelectedMap(best[1], best[2], reached)
