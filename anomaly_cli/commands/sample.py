"""`sample`: write a small data set in the layout of MVTec AD, without a download."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly_cli.config.data import SampleConfig
from anomaly_cli.data.defects import DefectKind, draw_defect
from anomaly_cli.data.photographs import CATEGORIES, Split, draw_normal, load_donors
from anomaly_cli.errors import ConfigError
from anomaly_cli.files.images import write_png
from anomaly_cli.files.lock import open_output_folder

MIN_TEST_IMAGES = 4  # of each defect type
KINDS = (DefectKind.SCRATCH, DefectKind.STAIN, DefectKind.HOLE, DefectKind.PATCH)


class CategoryCounts(NamedTuple):
    """Counts of the images that were written for one category."""

    category: str
    train: int  # normal
    test_normal: int
    test_anomalous: int  # over all defect types, each with its mask


class SampleResult(NamedTuple):
    """The result of `sample`."""

    destination: Path
    categories: tuple[CategoryCounts, ...]


def run(config: SampleConfig) -> SampleResult:
    """Write normal and anomalous images of the textures that ship inside scikit-image."""
    categories = select_categories(config.category)
    with open_output_folder(config.destination, overwrite=config.overwrite):
        counts = tuple(_write_category(config, category) for category in categories)
    return SampleResult(config.destination, counts)


def select_categories(name: str) -> Sequence[str]:
    """List the category of this name, or all categories for `all`.

    Raises:
        ConfigError: there is no such category.
    """
    if name == "all":
        return CATEGORIES
    if name in CATEGORIES:
        return [name]
    close = get_close_matches(name.lower(), (*CATEGORIES, "all"), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"unknown category {name!r}; known: {', '.join(CATEGORIES)} and all{hint}")


def _write_category(config: SampleConfig, category: str) -> CategoryCounts:
    test_count = max(MIN_TEST_IMAGES, config.count // 4)
    _write_normals(config, category, Split.TRAIN, config.count)
    _write_normals(config, category, Split.TEST, test_count)
    for kind in KINDS:
        _write_anomalous(config, category, kind, test_count)
    return CategoryCounts(category, config.count, test_count, test_count * len(KINDS))


def _write_normals(config: SampleConfig, category: str, split: Split, count: int) -> None:
    folder = config.destination / category / split / "good"
    generator = _make_generator(config.seed, category, split)
    for index in range(count):
        image = draw_normal(
            category, split=split, image_size=config.image_size, generator=generator
        )
        write_png(folder / f"{index:03d}.png", image)


def _write_anomalous(config: SampleConfig, category: str, kind: DefectKind, count: int) -> None:
    folder = config.destination / category
    donors = load_donors(category)
    generator = _make_generator(config.seed, category, kind)
    for index in range(count):
        image = draw_normal(
            category, split=Split.TEST, image_size=config.image_size, generator=generator
        )
        defect = draw_defect(image, kind=kind, donors=donors, generator=generator)
        write_png(folder / "test" / kind / f"{index:03d}.png", defect.image)
        write_png(folder / "ground_truth" / kind / f"{index:03d}_mask.png", defect.mask)


def _make_generator(seed: int, category: str, part: str) -> np.random.Generator:
    """Make a generator for one part of a category; its images do not depend on other parts."""
    return np.random.default_rng([seed, *f"{category}/{part}".encode()])
