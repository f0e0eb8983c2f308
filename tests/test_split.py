"""Photographs of one part stay on one side of the split; kinds of parts do not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.mvtec import training_images
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.read import read_image
from anomaly_cli.training.dataset import split_training_images
from anomaly_cli.training.split import count_held_out, group_twins, split_normal

PATHS = [Path(f"{number:03}.png") for number in range(40)]


def draw_part(number: int) -> RGBImage:
    """Draw soft blotches in grey, different for each number."""
    grid = np.random.default_rng(number).uniform(0, 255, (6, 6)).astype(np.float32)
    large = cv2.resize(grid, (96, 96), interpolation=cv2.INTER_CUBIC)
    return np.repeat(large.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def expose(image: RGBImage) -> RGBImage:
    """Photograph a part again: another exposure, shifted by a pixel, with noise."""
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    moved = np.roll(image, 1, axis=1).astype(np.float32)
    return (0.6 * moved + 30 + noise).clip(0, 255).astype(np.uint8)


def groups_of(images: dict[str, RGBImage]) -> NDArray[np.int_]:
    paths = [Path(name) for name in images]
    return group_twins(paths, lambda path: images[str(path)])


def test_photographs_of_one_part_are_one_group() -> None:
    images = {f"{number}": draw_part(number) for number in range(12)}
    images |= {f"{number} again": expose(draw_part(number)) for number in (3, 7)}
    groups = dict(zip(images, groups_of(images), strict=True))
    assert groups["3 again"] == groups["3"]
    assert groups["7 again"] == groups["7"]
    assert len(set(groups.values())) == 12


def test_images_of_more_than_one_block_are_compared_with_all_others() -> None:
    """The last of 1,040 images is the twin of the first."""
    images = {f"{number}": draw_part(number) for number in range(1039)}
    images["again"] = expose(draw_part(0))
    groups = groups_of(images)
    assert groups[-1] == groups[0]
    assert len(set(groups)) == 1039


def test_parts_that_all_look_alike_are_no_twins() -> None:
    """The usual distance within the category is the measure: here of prints with little noise."""
    common = draw_part(0).astype(np.float32) * 0.9 + 10
    noises = [draw_part(100 + number).astype(np.float32) - 127 for number in range(12)]
    images = {str(n): (common + 0.06 * own).astype(np.uint8) for n, own in enumerate(noises)}
    assert len(set(groups_of(images))) == 12


@given(
    numbers=st.lists(st.integers(0, 12), min_size=40, max_size=40),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 99),
)
def test_split_holds_out_the_share_and_divides_no_group_that_fits(
    numbers: list[int], share: float, seed: int
) -> None:
    groups = np.array(numbers)
    split = split_normal(PATHS, held_out=share, seed=seed, groups=groups)
    assert sorted([*split.fit, *split.held_out]) == PATHS
    sizes = np.bincount(groups)
    held_out = [numbers[PATHS.index(path)] for path in split.held_out]
    parts = [number for number in held_out if sizes[number] <= count_held_out(40, share)]
    assert split.held_out_parts == len(set(parts)) + len(held_out) - len(parts)
    count = count_held_out(len(PATHS), share)
    assert len(split.held_out) == count
    sides = [{numbers[PATHS.index(path)] for path in side} for side in split[:2]]
    parted = [number for number in sides[0] & sides[1] if sizes[number] <= count]
    assert len(parted) <= 1  # the last one, where nothing smaller is left
    if (sizes == 1).sum() >= count or (sizes > count).any():
        assert parted == []


def test_last_places_go_to_one_group_and_not_to_several() -> None:
    """Of 30, a group of 28 leaves 2: neither the 9 nor the 3 fit, and only one is parted."""
    numbers = [0] * 28 + [2] + [1] * 9 + [2] * 2
    for seed in range(20):
        split = split_normal(PATHS, held_out=0.75, seed=seed, groups=np.array(numbers))
        fit, held_out = ({numbers[PATHS.index(path)] for path in side} for side in split[:2])
        assert len(fit & held_out) <= 1


def test_without_twins_groups_do_not_change_the_split() -> None:
    plain = split_normal(PATHS, held_out=0.2, seed=5)
    assert split_normal(PATHS, held_out=0.2, seed=5, groups=np.arange(40)) == plain


def test_kind_of_part_that_is_half_of_all_is_divided() -> None:
    groups = np.repeat([0, 1], 20)
    plain = split_normal(PATHS, held_out=0.2, seed=5)
    assert split_normal(PATHS, held_out=0.2, seed=5, groups=groups) == plain


def test_training_does_not_fit_what_it_holds_out(tmp_path: Path) -> None:
    """Ten parts were photographed twice, under unrelated names."""
    folder = tmp_path / "part" / "train" / "good"
    folder.mkdir(parents=True)
    for number in range(10):
        cv2.imwrite(str(folder / f"a{number}.png"), draw_part(number))
        cv2.imwrite(str(folder / f"b{number}.png"), expose(draw_part(number)))
    for seed in range(5):
        config = TrainConfig(data=tmp_path, category="part", held_out=0.2, seed=seed)
        split = split_training_images(config)
        assert len(split.held_out) == 4
        assert {p.stem[1] for p in split.fit}.isdisjoint(p.stem[1] for p in split.held_out)


@pytest.mark.data
def test_real_tiles_are_held_out_with_their_other_exposures(real_data: Path) -> None:
    """Three hundred photographs of fewer tiles."""
    paths = training_images(real_data / "magnetic_tile", "tile")
    groups = group_twins(paths, read_image)
    assert len(set(groups)) < 0.7 * len(paths)
    assert np.bincount(groups).max() <= 10
    split = split_normal(paths, held_out=0.1, seed=0, groups=groups)
    sides = [{int(groups[paths.index(path)]) for path in side} for side in split[:2]]
    assert sides[0].isdisjoint(sides[1])
