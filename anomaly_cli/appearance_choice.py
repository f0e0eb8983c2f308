"""What the appearance of a place is compared with, and how much of its surroundings with it.

Parts that always lie alike look alike at each place; those that lie anywhere, and textures that
are nowhere the same, do not. Wide surroundings tell what a place belongs to, and put halos around
defects. Defects drawn into held-out images tell what suits a category.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly_cli.data.normal import NormalImages
from anomaly_cli.data.painted import painted_batches
from anomaly_cli.data.training_set import TrainingSet
from anomaly_cli.mixture_fit import fit_mixture
from anomaly_cli.normality import APPEARANCE_NOISE, place_appearance
from anomaly_cli.reached import NARROW_MARGIN, Reached, reach
from models.appearance import NEAR, WIDE, NormalAppearance, appearance, appearance_map
from models.mixture import Mixture

_SAMPLES = 100_000  # places of all images that a mixture is fitted to
_MOST_OF_ONE = 1024  # of one image's: neighbours tell the same


class Way(NamedTuple):
    """One way to know the appearance of normal images."""

    words: str
    is_anywhere: bool  # compared with kinds of places, not with the same place
    reaches: tuple[int, ...]


WAYS: Mapping[str, Way] = {  # those first that draw the narrower halos
    "same_place": Way("the same place", False, NEAR),
    "any_place": Way("any place", True, NEAR),
    "same_place_wide": Way("the same place and its wide surroundings", False, WIDE),
    "any_place_wide": Way("any place and its wide surroundings", True, WIDE),
}


class AppearanceChoice(NamedTuple):
    """How the appearance of normal images is known, and what each way reached."""

    way: str
    normal: NormalAppearance
    reached: dict[str, Reached]  # by way, on the drawn defects; empty if none were drawn


def choose_appearance(images: TrainingSet, *, batch_size: int) -> AppearanceChoice:
    """The first way that finds the drawn defects as well as the best, within `NARROW_MARGIN`.

    The same place where none were drawn.
    """
    if not images.validation:
        first = next(iter(WAYS))
        return AppearanceChoice(first, _fit(WAYS[first], images.fit, batch_size), {})
    fitted, reached = {}, {}
    for name, way in WAYS.items():
        fitted[name] = _fit(way, images.fit, batch_size)
        maps = _maps(painted_batches(images.validation, batch_size), fitted[name])
        reached[name] = reach(maps, images.validation)
    enough = max(row.mean for row in reached.values()) - NARROW_MARGIN
    best = next(name for name in WAYS if reached[name].mean >= enough)
    return AppearanceChoice(best, fitted[best], reached)


def in_words(choice: str, reached: Mapping[str, Mapping[str, float]]) -> str:
    """The chosen way, and what it and the others reached: a `Reached` of each, as plain values."""
    means = {name: Reached(**row).mean for name, row in reached.items()}
    others = ", ".join(f"{WAYS[name].words} {means[name]:.3f}" for name in means if name != choice)
    return (
        f"{WAYS[choice].words} of normal images "
        f"(mean AUROC on drawn defects {means[choice]:.3f}; {others})"
    )


def _fit(way: Way, images: NormalImages, batch_size: int) -> NormalAppearance:
    if way.is_anywhere:
        return appearance_anywhere(images, way.reaches, batch_size=batch_size)
    return place_appearance(images.batches(batch_size), way.reaches)


def appearance_anywhere(
    images: NormalImages, reaches: Sequence[int], *, batch_size: int
) -> Mixture:
    """The kinds of places that normal images have, by a random sample of their places."""
    generator = torch.Generator().manual_seed(0)
    wanted = min(_MOST_OF_ONE, -(-_SAMPLES // len(images)))
    sample = [
        of_image.flatten(1).T[torch.randperm(of_image[0].numel(), generator=generator)[:wanted]]
        for batch in images.batches(batch_size)
        for of_image in appearance(batch, reaches)
    ]
    values = torch.cat(sample)
    order = torch.randperm(len(values), generator=generator)
    return fit_mixture(values[order], noise=APPEARANCE_NOISE)


def _maps(batches: Iterable[Tensor], normal: NormalAppearance) -> Iterator[NDArray[np.float32]]:
    for batch in batches:
        yield from appearance_map(batch, normal).numpy()
