"""Augmentation stays within its ranges and never changes how a normal image looks."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_cli.errors import ConfigError
from anomaly_cli.files.images import RGBImage
from anomaly_cli.training.augmentation import (
    BY_CATEGORY,
    NONE,
    SAFE,
    Augmentation,
    augment,
    select_augmentation,
)

TEXTURES = {"carpet", "grid", "leather", "tile", "wood"}
OBJECTS = {
    *("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill"),
    *("screw", "toothbrush", "transistor", "zipper"),
}
MVTEC = TEXTURES | OBJECTS
EVERYTHING = Augmentation(
    rotation=45, translation=0.1, mirror_horizontally=True, mirror_vertically=True
)
SIZE = 64


def noise(size: int = SIZE) -> RGBImage:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


def blob(row: float, column: float, size: int = SIZE) -> RGBImage:
    """Draw a soft white dot on black; its centre of mass shows where it went."""
    rows, columns = np.mgrid[:size, :size]
    level = 255 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8)
    return np.repeat(level[..., None], 3, axis=2).round().astype(np.uint8)


def centre_of(image: RGBImage) -> np.ndarray:
    moments = cv2.moments(image[..., 0])
    return np.array([moments["m01"], moments["m10"]]) / moments["m00"]


def draws(image: RGBImage, ranges: Augmentation, count: int = 200) -> list[RGBImage]:
    return [augment(image, ranges, np.random.default_rng(seed)) for seed in range(count)]


# One draw


def test_without_ranges_the_image_stays_as_it_is() -> None:
    image = noise()
    for drawn in draws(image, NONE, 20):
        np.testing.assert_array_equal(drawn, image)


@pytest.mark.parametrize(
    ("horizontally", "vertically", "versions"),
    [(True, False, 2), (False, True, 2), (True, True, 4)],
)
def test_mirroring_gives_every_version_about_equally_often(
    horizontally: bool, vertically: bool, versions: int
) -> None:
    image = noise()
    expected = {
        version.tobytes()
        for version in (
            image,
            image[:, ::-1] if horizontally else image,
            image[::-1] if vertically else image,
            image[::-1, ::-1] if horizontally and vertically else image,
        )
    }
    ranges = Augmentation(mirror_horizontally=horizontally, mirror_vertically=vertically)
    drawn = [version.tobytes() for version in draws(image, ranges, 400)]
    assert len(expected) == versions
    assert set(drawn) == expected
    for version in expected:
        share = 400 / versions
        assert drawn.count(version) == pytest.approx(share, abs=5 * share**0.5)


@pytest.mark.parametrize("size", [64, 128])
def test_translation_is_a_share_of_the_side_in_both_directions(size: int) -> None:
    """10 of 256 px, so 2.5 px at 64 px and 5 px at 128 px, drawn up to either end."""
    middle = (size - 1) / 2
    shifts = np.array(
        [centre_of(drawn) - middle for drawn in draws(blob(middle, middle, size), SAFE)]
    )
    limit = size * 10 / 256
    assert np.abs(shifts).max() <= limit + 0.05
    assert shifts.min(axis=0) == pytest.approx([-limit, -limit], rel=0.1)
    assert shifts.max(axis=0) == pytest.approx([limit, limit], rel=0.1)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.25  # rows and columns are drawn apart


def test_rotation_is_about_the_centre_and_within_its_range() -> None:
    middle, radius = (SIZE - 1) / 2, 20
    dot = blob(middle, middle + radius)
    offsets = [centre_of(drawn) - middle for drawn in draws(dot, Augmentation(rotation=30))]
    angles = np.degrees([np.arctan2(row, column) for row, column in offsets])
    assert [np.hypot(*offset) for offset in offsets] == pytest.approx([radius] * 200, abs=0.1)
    assert np.abs(angles).max() <= 30.2
    assert angles.min() < -28
    assert angles.max() > 28


def test_the_centre_stays_in_place_when_the_image_turns() -> None:
    middle = (SIZE - 1) / 2
    for drawn in draws(blob(middle, middle), Augmentation(rotation=45), 50):
        assert np.abs(centre_of(drawn) - middle).max() < 0.05


@pytest.mark.parametrize("ranges", [EVERYTHING, *BY_CATEGORY.values()])
def test_corners_are_reflected_and_not_black(ranges: Augmentation) -> None:
    """A plain image stays plain; black corners would be learnt as normal."""
    plain = np.full((SIZE, SIZE, 3), (77, 130, 20), np.uint8)
    for drawn in draws(plain, ranges, 20):
        np.testing.assert_array_equal(drawn, plain)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([NONE, SAFE, EVERYTHING]))
def test_draw_keeps_shape_and_type_and_leaves_its_input_alone(
    seed: int, ranges: Augmentation
) -> None:
    image = noise()[:40]  # not square
    before = image.copy()
    drawn = augment(image, ranges, np.random.default_rng(seed))
    assert drawn.shape == (40, SIZE, 3)
    assert drawn.dtype == np.uint8
    assert drawn.flags.c_contiguous
    np.testing.assert_array_equal(image, before)


@given(st.integers(0, 2**32 - 1))
def test_ranges_do_not_shift_the_random_stream(seed: int) -> None:
    """Two trainings that differ in one range still flip the same images."""
    following = set()
    for ranges in (NONE, SAFE, EVERYTHING, Augmentation(mirror_vertically=True)):
        generator = np.random.default_rng(seed)
        augment(noise(8), ranges, generator)
        following.add(generator.random())
    assert len(following) == 1


def test_same_generator_state_gives_the_same_draw_and_another_a_different_one() -> None:
    first, again, other = (
        augment(noise(), EVERYTHING, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


# Choice of ranges


def test_every_category_of_mvtec_ad_has_its_ranges() -> None:
    assert len(MVTEC) == 15
    for category in MVTEC:
        assert select_augmentation("auto", category) is BY_CATEGORY[category]


def test_textures_are_not_shifted_and_objects_are() -> None:
    """A texture looks the same everywhere, so a shift would only blur it."""
    shifts = {name: BY_CATEGORY[name].translation for name in MVTEC}
    assert {name for name, shift in shifts.items() if shift == 0} == TEXTURES
    assert {name for name, shift in shifts.items() if shift == 10 / 256} == OBJECTS


@pytest.mark.parametrize("category", ["cable", "capsule", "metal_nut", "pill"])
def test_objects_with_a_handedness_are_never_mirrored(category: str) -> None:
    """Print, threads and wire colours would be reversed."""
    ranges = BY_CATEGORY[category]
    assert not ranges.mirror_horizontally
    assert not ranges.mirror_vertically


def test_setting_chooses_auto_none_or_another_category() -> None:
    assert select_augmentation("auto", "my part") == SAFE
    assert select_augmentation("none", "carpet") == NONE
    assert select_augmentation("in-place", "my part") == NONE
    assert select_augmentation("in-place", "carpet") == BY_CATEGORY["carpet"]
    assert select_augmentation("in-place", "bottle") == Augmentation(
        mirror_horizontally=True, mirror_vertically=True
    )
    assert select_augmentation("carpet", "my part") == BY_CATEGORY["carpet"]


def test_unknown_setting_is_refused_with_the_list() -> None:
    message = (
        r"--augmentation carpt is unknown; use auto, in-place, none, bottle, .*, zipper, brick"
    )
    with pytest.raises(ConfigError, match=message):
        select_augmentation("carpt", "carpet")
