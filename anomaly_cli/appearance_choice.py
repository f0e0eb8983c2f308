"""What the appearance of a place is compared with: the same place, or every kind of place.

Parts that always lie alike look alike at each place; those that lie anywhere, and textures that
are nowhere the same, do not. Defects drawn into held-out images tell which of the two it is.
"""

from collections.abc import Iterable, Iterator, Mapping
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
from anomaly_cli.reached import Reached, reach
from models.appearance import NormalAppearance, appearance, appearance_map
from models.mixture import Mixture

SAME_PLACE, ANY_PLACE = "same_place", "any_place"
_WORDS = {SAME_PLACE: "the same place", ANY_PLACE: "any place"}
_SAMPLES = 150_000  # places of all images that a mixture is fitted to
_MOST_OF_ONE = 1024  # of one image's: neighbours tell the same


class AppearanceChoice(NamedTuple):
    """How the appearance of normal images is known, and what each way reached."""

    normal: NormalAppearance
    reached: dict[str, Reached]  # by `SAME_PLACE` and `ANY_PLACE`; empty if nothing was drawn


def choose_appearance(images: TrainingSet, *, batch_size: int) -> AppearanceChoice:
    """The way that finds the drawn defects better; the same place where none were drawn."""
    same_place = place_appearance(images.fit.batches(batch_size))
    if not images.validation:
        return AppearanceChoice(same_place, {})
    ways: dict[str, NormalAppearance] = {
        SAME_PLACE: same_place,
        ANY_PLACE: appearance_anywhere(images.fit, batch_size=batch_size),
    }
    reached = {
        way: reach(_maps(painted_batches(images.validation, batch_size), normal), images.validation)
        for way, normal in ways.items()
    }
    best = max(reached, key=lambda way: reached[way].mean)
    return AppearanceChoice(ways[best], reached)


def appearance_anywhere(images: NormalImages, *, batch_size: int) -> Mixture:
    """The kinds of places that normal images have, by a random sample of their places."""
    generator = torch.Generator().manual_seed(0)
    wanted = min(_MOST_OF_ONE, -(-_SAMPLES // len(images)))
    sample = [
        of_image.flatten(1).T[torch.randperm(of_image[0].numel(), generator=generator)[:wanted]]
        for batch in images.batches(batch_size)
        for of_image in appearance(batch)
    ]
    values = torch.cat(sample)
    order = torch.randperm(len(values), generator=generator)
    return fit_mixture(values[order], noise=APPEARANCE_NOISE)


def _maps(batches: Iterable[Tensor], normal: NormalAppearance) -> Iterator[NDArray[np.float32]]:
    for batch in batches:
        yield from appearance_map(batch, normal).numpy()


def in_words(reached: Mapping[str, Mapping[str, float]]) -> str:
    """The better way, and what both reached: a `Reached` by name of the way, as plain values."""
    means = {way: Reached(**row).mean for way, row in reached.items()}
    other, best = sorted(means, key=lambda way: means[way])
    return (
        f"that of {_WORDS[best]} in normal images (mean AUROC on drawn defects {means[best]:.3f}, "
        f"with {_WORDS[other]} {means[other]:.3f})"
    )
