"""Test images of a data set with their masks, and the kinds of categories."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from anomaly_cli.config.names import TEXTURES

Item = TypeVar("Item")
Kind = Literal["texture", "object"]

GOOD = "good"  # the defect type of normal images
MVTEC_CATEGORIES = (  # in the order of the publication of MVTec AD, textures first
    "carpet",
    "grid",
    "leather",
    "tile",
    "wood",
    "bottle",
    "cable",
    "capsule",
    "hazelnut",
    "metal_nut",
    "pill",
    "screw",
    "toothbrush",
    "transistor",
    "zipper",
)


class Sample(NamedTuple):
    """A test image with its defect type and mask."""

    path: Path
    defect_type: str  # "good" for a normal image
    mask_path: Path | None  # None for a normal image, or if there is no mask
    title: str = ""  # name in reports, if the name of the file is ambiguous

    @property
    def is_anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect_type != GOOD

    @property
    def name(self) -> str:
        """Name of the image in reports."""
        return self.title or f"{self.defect_type}/{self.path.name}"


def kind_of(category: str) -> Kind:
    """Classify a category by its name; a category of unknown name is an object."""
    return "texture" if category in TEXTURES else "object"


def spread(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Choose at most `limit` items, evenly spread over all of them; None chooses all."""
    if limit is None or len(items) <= limit:
        return list(items)
    places = np.linspace(0, len(items) - 1, limit).round().astype(int)
    return [items[place] for place in places.tolist()]


def spread_samples(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """Choose at most `limit` samples of each defect type, evenly spread, in the given order."""
    kinds = dict.fromkeys(sample.defect_type for sample in samples)
    of_kinds = [[s for s in samples if s.defect_type == kind] for kind in kinds]
    kept = {sample for of_kind in of_kinds for sample in spread(of_kind, limit)}
    return [sample for sample in samples if sample in kept]
