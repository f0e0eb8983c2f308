"""Choose a model's map without a label: by defects drawn into held-out normal images."""

from collections.abc import Collection, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.normal import to_tensor
from anomaly_cli.data.painted import PaintedImage
from anomaly_cli.drawing import MapMaker
from anomaly_cli.fusion import MapSettings, finish_map
from anomaly_cli.maps import MapSpec, parts_of
from anomaly_cli.metrics.counts import ExactCounts
from anomaly_cli.metrics.detection import image_metrics, pixel_metrics
from anomaly_cli.witnesses import trust_parts

# What a favoured map may lack: less than drawn defects can tell. Some 40 of them and as many normal
# images leave an image AUROC uncertain by 0.04.
MARGIN = 0.02


class SelectedMap(NamedTuple):
    """The chosen map, and what each candidate reached."""

    spec: MapSpec
    settings: MapSettings
    reached: dict[str, "Reached"]  # by name of the map and smoothing, on the drawn defects


class Reached(NamedTuple):
    """What a candidate finds of the drawn defects."""

    pixel_auroc: float
    image_auroc: float  # of the maxima of the maps

    @property
    def mean(self) -> float:
        """One map has to tell where a defect is and whether there is one."""
        return (self.pixel_auroc + self.image_auroc) / 2


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
    drawn = _draw_parts(maker, specs, validation, batch_size)
    # Of the parts as they are: that they are smoothed changes little of what they can tell.
    trusts = {
        spec.source: trust_parts(drawn, spec, settings[0], validation)
        for spec in specs
        if spec.is_fused
    }
    settings = [setting._replace(trusts=trusts) for setting in settings]
    labels = np.array([image.mask.any() for image in validation])
    reached: dict[str, Reached] = {}
    found: list[tuple[Reached, MapSpec, MapSettings]] = []
    for spec, setting in product(specs, settings):
        counts = ExactCounts()  # of one candidate at a time, for the sake of memory
        maxima = np.zeros(len(validation))
        for row, image in enumerate(validation):
            of_image = {part: drawn[part][row] for part in spec.parts}
            anomaly_map = finish_map(of_image, spec, setting)
            counts.update(anomaly_map, image.mask)
            maxima[row] = anomaly_map.max()
        pixels = pixel_metrics(counts.ranking()).pixel_auroc
        value = Reached(pixels, image_metrics(maxima, labels).image_auroc)
        reached[f"{spec}, smoothing {setting.smoothing:g} px"] = value
        found.append((value, spec, setting))
    best = max(found, key=lambda row: row[0].mean)
    own = [row for row in found if row[1] in favoured]
    suits = max(own, key=lambda row: row[0].mean, default=best)
    if suits[0].mean >= best[0].mean - MARGIN:
        best = suits
    return SelectedMap(best[1], best[2], reached)


def _draw_parts(
    maker: MapMaker, specs: Sequence[MapSpec], validation: Sequence[PaintedImage], batch_size: int
) -> dict[MapSpec, NDArray[np.float32]]:
    """Maps (N, S, S) as they were drawn, of everything that the candidates are made of."""
    batches: dict[MapSpec, list[NDArray[np.float32]]] = {part: [] for part in parts_of(specs)}
    for start in range(0, len(validation), batch_size):
        images = np.stack([image.painted for image in validation[start : start + batch_size]])
        for part, maps in maker.draw(to_tensor(images), specs).items():
            batches[part].append(maps.numpy())
    return {part: np.concatenate(maps) for part, maps in batches.items()}
