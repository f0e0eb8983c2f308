"""Pictures: one colour scale for all images, so that a normal part looks normal."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from anomaly_cli.detector.calibration import calibrate
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.files.images import RGBImage
from anomaly_cli.pictures.colours import PALETTE, heat_levels, heatmap, overlay

RANGE = (1.0, 3.0)  # the threshold is 2
finite = st.floats(-10, 10, width=32)


def levels_of(*values: float, colour_range: tuple[float, float] = RANGE) -> list[int]:
    levels = heat_levels(np.array([values], np.float32), colour_range)
    return levels[0].tolist()  # type: ignore[no-any-return]


def noise(height: int, width: int) -> RGBImage:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


# Levels


def test_levels_run_from_one_end_of_the_colour_bar_to_the_other() -> None:
    """255 steps over 2 units: 1.2 is 25.5 steps up, 1.4 is 51."""
    assert levels_of(1.0, 1.4, 1.8, 2.6, 3.0) == [0, 51, 102, 204, 255]


def test_values_beyond_the_ends_take_the_colour_of_the_end() -> None:
    assert levels_of(-np.inf, -1e30, -5.0, 0.99) == [0, 0, 0, 0]
    assert levels_of(3.01, 5.0, 1e30, np.inf) == [255, 255, 255, 255]


def test_threshold_is_the_middle_of_the_palette() -> None:
    assert levels_of(2.0)[0] in {127, 128}
    below, above = levels_of(1.98, 2.02)
    assert below < 127.5 < above


@settings(deadline=None)
@given(arrays(np.float32, (3, 4), elements=finite), finite)
def test_same_value_has_the_same_level_whatever_else_is_in_the_image(
    others: NDArray[np.float32], value: float
) -> None:
    """Never scaled per image: a normal part would glow as much as a broken one."""
    others[1, 2] = value
    assert heat_levels(others, RANGE)[1, 2] == levels_of(value)[0]


@settings(deadline=None)
@given(st.lists(finite, min_size=2, max_size=20))
def test_higher_value_never_has_a_lower_level(values: list[float]) -> None:
    levels = levels_of(*sorted(values))
    assert levels == sorted(levels)


@settings(deadline=None)
@given(arrays(np.float32, (5, 6), elements=finite))
def test_levels_are_the_linear_scale_to_half_a_step(anomaly_map: NDArray[np.float32]) -> None:
    levels = heat_levels(anomaly_map, RANGE)
    exact = np.clip((anomaly_map.astype(float) - 1) / 2, 0, 1) * 255
    assert levels.dtype == np.uint8
    assert levels.shape == (5, 6)
    assert np.abs(levels - exact).max() <= 0.501


def test_map_is_left_as_it_was() -> None:
    anomaly_map = np.array([[-5, 0, 2, 9]], np.float32)
    heat_levels(anomaly_map, RANGE)
    assert anomaly_map.tolist() == [[-5, 0, 2, 9]]


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e-12])
def test_threshold_below_the_median_shows_what_exceeds_it_as_hot(value: float) -> None:
    """Down to constant maps, whose colour bar has no width; and no warning about a division."""
    calibration = calibrate([np.full((4, 4), value, np.float32)] * 2)
    colour_range = calibration.colour_range(Threshold(value, "given", 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        levels = levels_of(value, value + 0.1, value + 1e6, colour_range=colour_range)
    assert levels[0] <= 1
    assert levels[1:] == [255, 255]


# Colours


def test_palette_runs_from_dark_blue_over_green_to_dark_red() -> None:
    assert PALETTE.shape == (256, 3)
    assert PALETTE.dtype == np.uint8
    assert PALETTE[30].argmax() == 2
    assert PALETTE[128].argmax() == 1
    assert PALETTE[240].argmax() == 0
    assert len(np.unique(PALETTE, axis=0)) > 250


def test_heatmap_gives_each_level_its_colour_of_the_palette() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    picture = heatmap(levels)
    assert picture.shape == (8, 32, 3)
    np.testing.assert_array_equal(picture.reshape(-1, 3), PALETTE)


# Overlays


def test_normal_areas_stay_as_they_are_bit_by_bit() -> None:
    image = noise(40, 50)
    levels = np.zeros((40, 50), np.uint8)
    np.testing.assert_array_equal(overlay(image, levels), image)
    np.testing.assert_array_equal(overlay(image, levels, np.zeros((40, 50), bool)), image)
    levels[10:20, 5:30] = 255
    picture = overlay(image, levels)
    np.testing.assert_array_equal(picture[levels == 0], image[levels == 0])
    assert (picture[levels == 255] != image[levels == 255]).any(axis=-1).all()


@pytest.mark.parametrize(
    ("level", "opacity"), [(51, 0.104), (102, 0.416), (128, 0.65), (255, 0.65)]
)
def test_heat_is_mixed_in_up_to_two_thirds_at_the_threshold(level: int, opacity: float) -> None:
    """0.65 (level / 127.5)^2, so 0.65 * 0.16 at level 51, and never more than 0.65."""
    image = noise(6, 7)
    picture = overlay(image, np.full((6, 7), level, np.uint8))
    expected = (1 - opacity) * image + opacity * PALETTE[level].astype(float)
    assert picture.dtype == np.uint8
    assert picture.shape == (6, 7, 3)
    assert np.abs(picture - expected).max() <= 0.6


@pytest.mark.parametrize(("size", "rim_level"), [(100, 90), (300, 0)])
def test_contour_is_drawn_where_the_mask_begins_and_nowhere_else(size: int, rim_level: int) -> None:
    """White on the outermost pixels; from 256 px on a black rim, which ends 3 pixels from them."""
    image = np.full((size, size, 3), 90, np.uint8)
    mask = np.zeros((size, size), bool)
    mask[30:70, 40:80] = True
    picture = overlay(image, np.zeros((size, size), np.uint8), mask)
    near = np.zeros((size, size), bool)
    near[27:73, 37:83] = True
    near[34:66, 44:76] = False
    assert (picture[~near] == 90).all()
    for border in (picture[30, 45:75], picture[69, 45:75], picture[35:65, 40], picture[35:65, 79]):
        assert border.min() > 200
    for rim in (picture[28, 45:75], picture[71, 45:75], picture[35:65, 38], picture[35:65, 81]):
        assert rim.max() == rim_level


def test_contour_of_every_region_and_hole_is_drawn() -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[8:28, 8:28] = True
    mask[14:22, 14:22] = False  # a hole: the mask ends at row and column 13
    mask[50:52, 40:44] = True
    picture = overlay(image, np.zeros((64, 64), np.uint8), mask)
    assert picture[8, 10:26].min() > 200
    assert picture[13, 15:21].min() > 200
    assert picture[15:21, 13].min() > 200
    assert picture[50:52, 40:44].min() > 150


def test_contour_lies_over_the_heat() -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    levels = np.full((64, 64), 255, np.uint8)
    picture = overlay(noise(64, 64), levels, mask)
    assert picture[20, 25:35].min() > 200
    np.testing.assert_array_equal(picture[~mask][:100], overlay(noise(64, 64), levels)[~mask][:100])


@pytest.mark.parametrize(("size", "width"), [(128, 1), (512, 3), (1024, 5)])
def test_contour_grows_with_the_image_so_that_it_stays_visible(size: int, width: int) -> None:
    """One pixel for every 256 of the shorter side, and smooth ends that make it odd."""
    mask = np.zeros((size, size + 200), bool)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = True
    picture = overlay(np.full((*mask.shape, 3), 90, np.uint8), np.zeros(mask.shape, np.uint8), mask)
    assert (picture[size // 2, : size // 2, 0] > 200).sum() == width


def test_picture_does_not_change_the_image_or_the_mask() -> None:
    image, mask = noise(32, 32), np.zeros((32, 32), bool)
    mask[4:9, 4:9] = True
    before = image.copy(), mask.copy()
    overlay(image, np.full((32, 32), 255, np.uint8), mask)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])
