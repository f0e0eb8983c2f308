"""Choose the map of a model without a label: by defects drawn into held-out normal images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from anomaly_cli.data.defects import DefectKind, draw_defect
from anomaly_cli.data.normal import NormalImages, to_tensor
from anomaly_cli.data.textures import load_donors
from anomaly_cli.images import Mask, RGBImage
from anomaly_cli.maps import MapMaker, MapSpec
from anomaly_cli.metrics.counts import ExactCounts
from anomaly_cli.metrics.detection import pixel_metrics

MAX_IMAGES = 40  # synthetic ones; more would tell little and cost a backward pass per latent each


class SelectedMap(NamedTuple):
    """The chosen map, and what each candidate reached."""

    spec: MapSpec
    pixel_auroc: dict[str, float]  # by name of the map, on the synthetic defects


def synthetic_pairs(images: NormalImages, *, seed: int) -> Iterator[tuple[RGBImage, Mask]]:
    """Held-out normal images with one defect each, kinds in turn, and exact masks.

    Every image is used before one is used again with another kind of defect.
    """
    donors = load_donors("")
    kinds = list(DefectKind)
    for number in range(min(MAX_IMAGES, len(images) * len(kinds))):
        position, turn = number % len(images), number // len(images)
        kind = kinds[(position + turn) % len(kinds)]
        generator = np.random.default_rng([seed, position, turn])
        image = images.plain(position)
        defect = draw_defect(image, kind=kind, donors=donors, generator=generator)
        yield defect.image, defect.mask


def select_map(
    maker: MapMaker,
    candidates: Sequence[MapSpec],
    held_out: NormalImages,
    *,
    seed: int,
    batch_size: int,
) -> SelectedMap:
    """The candidate with the highest pixel AUROC on synthetic defects; the first of equal ones."""
    counts = {spec: ExactCounts() for spec in candidates}
    pairs = list(synthetic_pairs(held_out, seed=seed))
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        drawn = maker(to_tensor(np.stack([image for image, _mask in batch])), candidates)
        for spec, maps in drawn.items():
            for anomaly_map, (_image, mask) in zip(maps.numpy(), batch, strict=True):
                counts[spec].update(anomaly_map, mask)
    reached = {spec: pixel_metrics(counts[spec].ranking()).pixel_auroc for spec in candidates}
    best = max(candidates, key=lambda spec: reached[spec])
    return SelectedMap(best, {str(spec): value for spec, value in reached.items()})
