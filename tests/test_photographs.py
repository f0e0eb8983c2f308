"""Normal images come from photographs on disk, and test images from unseen parts of them."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_cli.data.photographs import (
    CATEGORIES,
    MAX_CROP,
    OTHER_DONORS,
    Split,
    draw_normal,
    load_donors,
    load_photograph,
    load_region,
)
from anomaly_cli.files.images import RGBImage

EVERY_CATEGORY = pytest.mark.parametrize("category", CATEGORIES)


def draw(category: str, split: Split, image_size: int, seed: int) -> RGBImage:
    generator = np.random.default_rng(seed)
    return draw_normal(category, split=split, image_size=image_size, generator=generator)


@pytest.mark.parametrize("name", [*CATEGORIES, *OTHER_DONORS])
def test_photograph_ships_inside_scikit_image_and_needs_no_download(name: str) -> None:
    assert (Path(skimage.data.__file__).parent / f"{name}.png").is_file()


@EVERY_CATEGORY
def test_training_and_test_regions_are_the_two_halves_of_a_cut(category: str) -> None:
    """Put side by side they are the photograph, so no pixel is in both."""
    regions = [load_region(category, split) for split in (Split.TRAIN, Split.TEST)]
    np.testing.assert_array_equal(np.concatenate(regions, axis=1), load_photograph(category))
    assert not np.shares_memory(*regions)
    assert [region.shape[1] for region in regions] == [307, 205]


@pytest.mark.parametrize("split", Split)
def test_crop_shows_only_its_own_region(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a photograph that is black left of the cut and white right of it, no crop shows both."""
    photograph = np.zeros((512, 512, 3), np.uint8)
    photograph[:, 307:] = 255
    monkeypatch.setattr("anomaly_cli.data.photographs.load_photograph", lambda _name: photograph)
    levels = {int(level) for seed in range(40) for level in np.unique(draw("x", split, 64, seed))}
    assert levels == ({0} if split is Split.TRAIN else {255})


def test_largest_crop_fits_the_smaller_region() -> None:
    for category in CATEGORIES:
        assert min(load_region(category, Split.TEST).shape[:2]) >= MAX_CROP


@given(
    category=st.sampled_from(CATEGORIES),
    split=st.sampled_from(Split),
    image_size=st.integers(32, 320),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_crop_is_square_rgb_of_the_size_asked_for_and_keeps_the_brightness(
    category: str, split: Split, image_size: int, seed: int
) -> None:
    crop = draw(category, split, image_size, seed)
    assert crop.shape == (image_size, image_size, 3)
    assert crop.dtype == np.uint8
    assert abs(crop.mean() - load_region(category, split).mean()) < 15


@EVERY_CATEGORY
def test_image_larger_than_the_region_is_enlarged(category: str) -> None:
    """A draw at 1024 pixels, shrunk, is the draw at 128."""
    large, small = (draw(category, Split.TEST, size, 5) for size in (1024, 128))
    shrunk = large.reshape(128, 8, 128, 8, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 6


def test_takes_of_the_aligned_part_show_the_same_place_with_small_changes() -> None:
    """Two takes correlate strongly, of either split; two crops of a texture do not."""
    takes = [draw("brick", split, 128, seed) for seed, split in enumerate([*Split] * 3)]
    crops = [draw("grass", Split.TRAIN, 128, seed) for seed in range(4)]
    for other in takes[1:]:
        assert np.corrcoef(takes[0].ravel(), other.ravel())[0, 1] > 0.6
        assert (takes[0] != other).mean() > 0.5
    for other in crops[1:]:
        assert abs(np.corrcoef(crops[0].ravel(), other.ravel())[0, 1]) < 0.3


def test_a_take_stays_grey() -> None:
    take = draw("brick", Split.TRAIN, 64, 0)
    assert (take[..., 0] == take[..., 1]).all()
    assert (take[..., 0] == take[..., 2]).all()


def test_same_seed_gives_the_same_crop_and_another_seed_another() -> None:
    first, again, other = (draw("gravel", Split.TRAIN, 96, seed) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_crop_is_mirrored_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a photograph that brightens to the right, the crop brightens to either side."""
    ramp = np.repeat(np.linspace(0, 255, 512).astype(np.uint8)[None, :, None], 512, axis=0)
    photograph = np.repeat(ramp, 3, axis=2)
    monkeypatch.setattr("anomaly_cli.data.photographs.load_photograph", lambda _name: photograph)
    crops = [draw("x", Split.TRAIN, 64, seed) for seed in range(60)]
    mirrored = sum(crop[0, 0, 0] > crop[0, -1, 0] for crop in crops)
    assert 15 < mirrored < 45


def test_photographs_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_photograph("brick")[0, 0] = 0


def test_crop_is_the_callers_own_even_where_nothing_is_resized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("anomaly_cli.data.photographs.MIN_CROP", MAX_CROP)
    for seed in range(6):  # mirrored and not
        draw("grass", Split.TRAIN, MAX_CROP, seed)[0, 0] = 0


@EVERY_CATEGORY
def test_donors_are_every_photograph_but_the_category_itself(category: str) -> None:
    donors = load_donors(category)
    assert len(donors) == len(CATEGORIES) + len(OTHER_DONORS) - 1
    assert not any(donor is load_photograph(category) for donor in donors)
