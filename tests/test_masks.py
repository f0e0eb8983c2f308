"""Which regions of a map are anomalous, and how far they reach."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.filters import apply_hysteresis_threshold

from anomaly_cli.config.values import parse_outline
from anomaly_cli.detector.masks import MarkedMap, anomaly_mask, fit_outline
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import ConfigError


def at(value: float, outline: float = math.nan, level: float = math.nan) -> Threshold:
    return Threshold(value, "given", 0, outline, normal_level=level)


def draw(seed: int) -> NDArray[np.float32]:
    """Draw a smooth map (24, 31) of some regions."""
    noise = np.random.default_rng(seed).normal(size=(24, 31))
    kernel = np.ones((5, 5)) / 5
    padded = np.pad(noise, 2, mode="wrap")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    return np.asarray((windows * kernel).sum(axis=(2, 3)), np.float32)


def row(*values: float) -> NDArray[np.float32]:
    return np.array([values], np.float32)


def test_without_outline_a_mask_holds_the_pixels_above_the_threshold() -> None:
    anomaly_map = row(1, 2, 2.5, 0, 3)
    assert anomaly_mask(anomaly_map, at(2)).tolist() == [[False, False, True, False, True]]


def test_region_reaches_down_to_a_lower_outline_and_a_faint_one_stays_normal() -> None:
    """Left a region of peak 5, right one of peak 3, at a threshold of 4 and an outline of 2."""
    anomaly_map = row(2, 2.5, 5, 2.5, 1, 2.5, 3, 2.5)
    expected = [[False, True, True, True, False, False, False, False]]
    assert anomaly_mask(anomaly_map, at(4, 2)).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(-1, 3), st.floats(0, 2))
def test_lower_outline_is_hysteresis(seed: int, value: float, below: float) -> None:
    """scikit-image joins no corners in 2-D, so its mask is a part of this one."""
    anomaly_map = draw(seed)
    mask = anomaly_mask(anomaly_map, at(value, value - below))
    joined_by_sides = apply_hysteresis_threshold(
        anomaly_map, np.float32(value - below), np.float32(value)
    )
    assert mask[joined_by_sides].all()
    assert (anomaly_map[mask] > np.float32(value - below)).all()
    assert mask.any() == (anomaly_map > np.float32(value)).any()


def test_regions_that_touch_at_a_corner_are_one() -> None:
    anomaly_map = np.array([[5, 0], [0, 3]], np.float32)
    assert anomaly_mask(anomaly_map, at(4, 2)).tolist() == [[True, False], [False, True]]


def test_higher_outline_cuts_off_the_halo() -> None:
    """It cuts off specks beside it too. A faint defect ends between threshold and peak."""
    bright = row(5, 7, 20, 9, 5, 0, 6)
    assert anomaly_mask(bright, at(4, 8)).tolist() == [[False] * 2 + [True] * 2 + [False] * 3]
    faint = row(0, 4.5, 5, 5.5, 6, 0)
    assert anomaly_mask(faint, at(4, 8)).tolist() == [[False, False, False, True, True, False]]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(-2, 4), st.floats(-3, 6))
def test_outline_never_changes_whether_an_image_is_anomalous(
    seed: int, value: float, outline: float
) -> None:
    """The highest pixel of an anomalous image is in its mask; a normal image has an empty mask."""
    anomaly_map = draw(seed)
    mask = anomaly_mask(anomaly_map, at(value, outline))
    assert mask.any() == (anomaly_map > value).any()
    if mask.any():
        assert mask.flat[anomaly_map.argmax()]
    if outline >= value:
        assert not mask[anomaly_map <= value].any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(-2, 4), st.floats(-3, 6), st.floats(-3, 6))
def test_lower_outline_never_shrinks_a_mask(seed: int, value: float, a: float, b: float) -> None:
    small, large = (anomaly_mask(draw(seed), at(value, end)) for end in (max(a, b), min(a, b)))
    assert not (small & ~large).any()


@pytest.mark.parametrize("level", [math.nan, 0.0, 1.5])
def test_image_barely_above_the_threshold_has_a_mask(level: float) -> None:
    """The middle of two neighbouring numbers must not be rounded to the higher one."""
    for value in np.linspace(1, 2, 50, dtype=np.float32):
        peak = np.nextafter(value, np.float32(9))
        mask = anomaly_mask(row(0, peak), at(float(value), 8, level))
        assert mask.tolist() == [[False, True]]


def test_region_ends_halfway_up_from_the_normal_level_or_at_the_outline() -> None:
    """At a level of 1 and an outline of 4 the peak of 21 ends at 11, and that of 6 at 4."""
    anomaly_map = row(5, 10, 12, 21, 12, 10, 1, 3, 4.5, 6, 4.5, 3)
    for outline, expected in ((4, "..xxx...xxx."), (math.nan, "xxxxxx...x..")):
        mask = anomaly_mask(anomaly_map, at(4.8, outline, 1))
        assert "".join(".x"[int(pixel)] for pixel in mask[0]) == expected


def test_piece_that_is_left_of_a_halved_region_has_to_exceed_the_threshold() -> None:
    """The region ends at 6, and its foothill of 7 lies below the threshold of 8."""
    mask = anomaly_mask(row(0, 7, 4, 9, 12, 9, 4, 9, 3), at(8, 2, 0))
    assert mask.tolist() == [[False] * 3 + [True] * 3 + [False, True, False]]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(-1, 3), st.floats(-3, 6), st.floats(-3, 3))
def test_halved_regions_lie_inside_the_whole_ones_and_none_disappears(
    seed: int, value: float, outline: float, level: float
) -> None:
    anomaly_map = draw(seed)
    whole = anomaly_mask(anomaly_map, at(value, outline))
    mask = anomaly_mask(anomaly_map, at(value, outline, level))
    assert not (mask & ~whole).any()
    assert mask.any() == whole.any()
    if mask.any():
        assert mask.flat[anomaly_map.argmax()]


@pytest.mark.parametrize("outline", [math.nan, 0.0, 3.0])
def test_undefined_threshold_marks_nothing(outline: float) -> None:
    assert not anomaly_mask(row(1, 2, 3), at(math.nan, outline)).any()


def test_infinite_values_are_inside() -> None:
    anomaly_map = row(-math.inf, 3, math.inf)
    assert anomaly_mask(anomaly_map, at(4, 2)).tolist() == [[False, True, True]]
    assert anomaly_mask(anomaly_map, at(2, 9)).tolist() == [[False, False, True]]


def test_outline_is_fitted_where_defects_end() -> None:
    """A defect of 8 on a halo of 5: any outline from 5 up to 8 is exact."""
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:6] = True
    anomaly_map = np.where(mask, np.float32(8), np.float32(5))
    outline = fit_outline([MarkedMap(anomaly_map + 0.01 * draw(1)[:8, :8], mask)], lowest=-9)
    assert 5 < outline <= 8.1


def test_each_image_counts_alike_whatever_the_size_of_its_defect() -> None:
    """Many small faint defects outweigh a few that are large and bright, and the reverse."""
    large = np.zeros((20, 20), bool)
    large[:10] = True
    small = np.zeros((20, 20), bool)
    small[3:5, 3:5] = True
    bright = MarkedMap(np.where(large, 9, 4).astype(np.float32), large)
    faint = MarkedMap(np.where(small, 3, 1).astype(np.float32), small)
    assert fit_outline([bright] * 2 + [faint] * 20, lowest=-9) < 3
    assert 4 <= fit_outline([bright] * 20 + [faint] * 2, lowest=-9) < 9


def test_the_lowest_of_equally_good_outlines_is_taken() -> None:
    """One defect ends at 2 and one at 6: two images cannot decide which is better."""
    mask = np.array([[True, True, True, False, False, False]])
    high, low = (row(*values) for values in ((9, 8, 7, 6, 1, 1), (9, 8, 3, 2, 1, 1)))
    assert fit_outline([MarkedMap(high, mask)], lowest=-9) >= 6
    assert 2 <= fit_outline([MarkedMap(high, mask), MarkedMap(low, mask)], lowest=-9) < 3
    assert fit_outline([MarkedMap(high, mask)] * 9 + [MarkedMap(low, mask)], lowest=-9) >= 6
    three_to_two = [MarkedMap(high, mask)] * 3 + [MarkedMap(low, mask)] * 2
    assert 2 <= fit_outline(three_to_two, lowest=-9) < 3, "the higher one is better by 0.06 errors"


def test_where_regions_are_halved_the_outline_is_that_of_faint_defects() -> None:
    """Bright slopes end at half of 12 then, whatever the outline; a faint one ends at 2."""
    mask = np.array([[False, True, True, True, False]])
    bright, faint = MarkedMap(row(5, 7, 12, 7, 5), mask), MarkedMap(row(1, 2, 3, 2, 1), mask)
    defects = [bright] * 9 + [faint]
    assert fit_outline(defects, lowest=-9) > 5
    assert 1 <= fit_outline(defects, lowest=-9, normal_level=0.0) < 2


def test_outline_is_never_below_the_lowest_allowed() -> None:
    mask = np.array([[True, False]])
    assert fit_outline([MarkedMap(row(2, 1), mask)], lowest=5.0) == 5.0


def test_without_a_defect_there_is_no_outline() -> None:
    assert math.isnan(fit_outline([], lowest=0.0))
    nothing = MarkedMap(row(1, 2), np.zeros((1, 2), bool))
    assert math.isnan(fit_outline([nothing], lowest=0.0))


def test_outline_is_a_number_or_the_threshold() -> None:
    assert parse_outline("-2.5") == -2.5
    assert math.isnan(parse_outline("threshold"))


@pytest.mark.parametrize("text", ["", "nan", "inf", "-inf", "half", "image-fpr=0.05"])
def test_other_outlines_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be a number, or threshold"):
        parse_outline(text)
