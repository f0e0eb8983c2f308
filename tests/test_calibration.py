"""Thresholds from held-out normal images: ranks worked out by hand, and their guarantees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomaly_cli.config.names import Scores
from anomaly_cli.config.values import ThresholdRule, parse_threshold
from anomaly_cli.detector.calibration import (
    EXCEEDANCE,
    Calibration,
    calibrate,
    calibrate_map,
)
from anomaly_cli.detector.masks import MarkedMap
from anomaly_cli.detector.threshold import Threshold, gumbel_limit
from anomaly_cli.errors import CheckpointError, ConfigError

TYPED = ["max", "image-fpr=0.05", "image-fpr=0.2", "pixel-fpr=0.01", "pixel-fpr=1e-06"]


def maps_with_maxima(*maxima: float) -> list[NDArray[np.float32]]:
    """Make maps (2, 2) that are 0 but for one pixel."""
    maps = []
    for maximum in maxima:
        anomaly_map = np.zeros((2, 2), np.float32)
        anomaly_map[1, 0] = maximum
        maps.append(anomaly_map)
    return maps


def image_threshold(maxima: NDArray[np.floating], rate: float) -> float:
    nowhere = np.zeros(len(EXCEEDANCE), np.float32)
    calibration = Calibration(np.sort(maxima).astype(np.float32), nowhere)
    return calibration.threshold(ThresholdRule("image-fpr", rate)).value


@pytest.fixture(scope="module")
def uniform() -> Calibration:
    """20 maps of uniform noise in [0, 1), 200,000 pixels."""
    noise = np.random.default_rng(0).random((20, 100, 100), np.float32)
    return calibrate(noise)


# The rule image-fpr


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [
        (19, 0.05, 19),  # 20 * 0.95 = 19
        (20, 0.05, 20),  # 21 * 0.95 = 19.95
        (39, 0.05, 38),  # 40 * 0.95 = 38
        (59, 0.05, 57),  # 60 * 0.95 = 57
        (99, 0.01, 99),  # 100 * 0.99 = 99
        (199, 0.05, 190),
        (149, 0.18, 123),  # 150 * 0.82 = 123, and 123.00000000000001 in floats
        (9, 0.5, 5),  # the median
        (9, 0.9, 1),
        (9, 0.99, 1),  # never below the smallest
    ],
)
def test_threshold_is_the_maximum_of_that_rank(count: int, rate: float, rank: int) -> None:
    """With maxima 1 to N the threshold is its own rank, ceil((N + 1)(1 - rate))."""
    assert image_threshold(np.arange(1, count + 1), rate) == rank


@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_one_image_gives_its_own_maximum(rate: float) -> None:
    assert image_threshold(np.array([3.5]), rate) == 3.5
    assert gumbel_limit(np.array([3.5], np.float32), rate) == 3.5


def test_too_few_images_for_the_rate_give_the_limit_of_gumbel_distribution() -> None:
    """Written out for maxima 1, 2 and 3 at 5%: mean 2, standard deviation 1, two degrees."""
    scale = 6**0.5 / np.pi
    widened = 2.91999 / 1.64485 * (4 / 3) ** 0.5  # Student's t and the normal, of tables
    by_hand = 2 - 0.57722 * scale + scale * 2.97020 * widened
    assert gumbel_limit(np.array([1, 2, 3], np.float32), 0.05) == pytest.approx(by_hand, rel=1e-4)
    assert image_threshold(np.array([1, 2, 3]), 0.05) == pytest.approx(by_hand, rel=1e-4)


def test_threshold_is_never_below_the_largest_of_too_few_images() -> None:
    """Fifteen of one value and one far off: the many determine the limit."""
    maxima = np.array([0.0] * 15 + [100.0], np.float32)
    assert gumbel_limit(maxima, 0.05) < 100
    assert image_threshold(maxima, 0.05) == 100


@given(shift=st.floats(-100, 100), factor=st.floats(0.01, 100))
def test_limit_moves_with_the_unit_of_the_map(shift: float, factor: float) -> None:
    """Scores in standard deviations therefore mark the same images as raw ones."""
    maxima = np.array([1, 2, 4, 4.5], np.float32)
    moved = gumbel_limit((maxima * factor + shift).astype(np.float32), 0.05)
    assert moved == pytest.approx(gumbel_limit(maxima, 0.05) * factor + shift, rel=1e-3, abs=1e-3)


@given(count=st.integers(1, 500), thousandths=st.integers(1, 999))
def test_rank_is_the_smallest_that_keeps_the_rate(count: int, thousandths: int) -> None:
    """A new image exceeds the rank k with probability 1 - k/(N + 1) if all are exchangeable.

    In whole numbers, so that no rounding can cost or win a rank.
    """
    rank = image_threshold(np.arange(1, count + 1), thousandths / 1000)
    allowed = (count + 1) * thousandths
    if allowed < 1000:
        assert rank >= count
    else:
        assert (count + 1 - rank) * 1000 <= allowed
        assert rank == 1 or (count + 1 - (rank - 1)) * 1000 > allowed


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (39, 0.05), (30, 0.1), (60, 0.2)])
def test_new_normal_image_exceeds_the_threshold_as_rarely_as_promised(
    count: int, rate: float
) -> None:
    """Split conformal prediction: a rate in (rate - 1/(N + 1), rate], whatever the distribution."""
    trials = 4000
    scores = np.random.default_rng(count).lognormal(0, 2, (trials, count + 1))
    exceeded = [row[-1] > image_threshold(row[:-1], rate) for row in scores.astype(np.float32)]
    sigma = (rate * (1 - rate) / trials) ** 0.5
    assert rate - 1 / (count + 1) - 4 * sigma < np.mean(exceeded) < rate + 4 * sigma


@pytest.mark.parametrize("count", [2, 4, 10, 18])
def test_few_images_keep_the_rate_roughly(count: int) -> None:
    """Maxima of 100 pixels each; the largest alone would be exceeded 1 / (N + 1) of the time."""
    trials = 4000
    pixels = np.random.default_rng(count).exponential(size=(trials, count + 1, 100)).max(axis=2)
    exceeded = [row[-1] > image_threshold(row[:-1], 0.05) for row in pixels.astype(np.float32)]
    assert 0.03 < np.mean(exceeded) < 0.065


# The rules max and pixel-fpr, and given numbers


def test_max_is_the_largest_value_so_no_held_out_pixel_exceeds_it() -> None:
    maps = maps_with_maxima(0.5, 4, 2)
    threshold = calibrate(maps).threshold(ThresholdRule("max"))
    assert threshold[:3] == (4.0, "max", 3)
    assert not any((anomaly_map > threshold.value).any() for anomaly_map in maps)


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.01, 0.001])
def test_pixel_rule_is_exceeded_by_that_share_of_the_pixels(rate: float) -> None:
    maps = np.random.default_rng(1).normal(size=(20, 100, 100)).astype(np.float32)
    threshold = calibrate(maps).threshold(ThresholdRule("pixel-fpr", rate))
    assert (maps > threshold.value).mean() == pytest.approx(rate, rel=0.05)
    assert threshold.rule == f"pixel-fpr={rate}"
    assert threshold.held_out == 20


def test_pixel_rule_of_uniform_pixels_is_one_minus_the_rate(uniform: Calibration) -> None:
    values = [uniform.threshold(ThresholdRule("pixel-fpr", r)).value for r in (0.5, 0.1, 0.01)]
    assert values == pytest.approx([0.5, 0.9, 0.99], abs=0.005)


@given(rates=st.tuples(*[st.floats(1e-9, 0.999)] * 2), kind=st.sampled_from(["image", "pixel"]))
def test_lower_rate_never_lowers_the_threshold(
    uniform: Calibration, rates: tuple[float, float], kind: str
) -> None:
    low, high = sorted(rates)
    strict, loose = (
        uniform.threshold(parse_threshold(f"{kind}-fpr={rate}")).value for rate in (low, high)
    )
    assert strict >= loose


def test_pixel_rate_below_all_stored_ones_is_at_most_the_largest_value(
    uniform: Calibration,
) -> None:
    value = uniform.threshold(ThresholdRule("pixel-fpr", 1e-12)).value
    assert 0.9999 < value <= uniform.maxima[-1]


def test_given_number_is_taken_as_it_is(uniform: Calibration) -> None:
    assert uniform.threshold(0.25) == Threshold(0.25, "given", 0)


# Calibration


def test_calibration_holds_the_maximum_of_each_map_in_ascending_order() -> None:
    calibration = calibrate(iter(maps_with_maxima(3, 1, 2)))
    assert calibration.maxima.tolist() == [1, 2, 3]
    assert calibration.maxima.dtype == calibration.quantiles.dtype == np.float32


def test_stored_quantiles_are_values_that_the_stated_share_exceeds() -> None:
    """Of 1,000,000 different pixels, `share` lie above each quantile, to two pixels."""
    maps = np.random.default_rng(0).permutation(10**6).reshape(4, 500, 500).astype(np.float32)
    quantiles = calibrate(maps).quantiles
    exceeding = [(maps > quantile).sum() for quantile in quantiles]
    assert len(quantiles) == 121
    assert EXCEEDANCE[[0, 20, 120]] == pytest.approx([1, 0.1, 1e-6])
    excess = np.array(exceeding) - EXCEEDANCE * 10**6
    assert excess.min() >= -2
    assert excess.max() <= 0  # never more than stated
    assert (np.diff(quantiles) >= 0).all()


def test_order_of_the_maps_does_not_matter(uniform: Calibration) -> None:
    noise = np.random.default_rng(0).random((20, 100, 100), np.float32)
    shuffled = calibrate(noise[::-1, ::-1])
    np.testing.assert_array_equal(shuffled.maxima, uniform.maxima)
    np.testing.assert_array_equal(shuffled.quantiles, uniform.quantiles)


def test_calibration_without_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one map"):
        calibrate([])


# Colours


@settings(deadline=None)
@given(st.floats(0.6, 100))
def test_threshold_lies_in_the_middle_of_the_colour_bar_above_the_median(
    uniform: Calibration, value: float
) -> None:
    low, high = uniform.colour_range(Threshold(value, "given", 0))
    assert low == pytest.approx(0.5, abs=0.01)  # the median of uniform pixels
    assert (low + high) / 2 == pytest.approx(value)


def test_lower_end_of_the_colour_bar_is_the_median_of_skewed_pixels_too() -> None:
    maps = np.random.default_rng(2).exponential(size=(10, 100, 100)).astype(np.float32)
    calibration = calibrate(maps)
    low, _ = calibration.colour_range(calibration.threshold(ThresholdRule("max")))
    assert low == pytest.approx(np.log(2), abs=0.01)
    assert low == pytest.approx(np.median(maps), abs=0.005)


@given(st.floats(-100, 0.5))
def test_threshold_below_the_median_is_the_lower_end_of_the_colour_bar(
    uniform: Calibration, value: float
) -> None:
    low, high = uniform.colour_range(Threshold(value, "given", 0))
    if value < 0.495:
        assert low == value
    assert low <= value < high
    assert np.isfinite(255 / (high - low))


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_constant_maps_still_have_a_colour_bar(value: float) -> None:
    """Such as those of a collapsed latent, which are 0 everywhere."""
    calibration = calibrate([np.full((4, 4), value, np.float32)] * 3)
    threshold = calibration.threshold(ThresholdRule("image-fpr", 0.05))
    low, high = calibration.colour_range(threshold)
    assert low == threshold.value == value
    assert np.float32(low) < np.float32(high)
    assert high == pytest.approx(value, rel=1.1e-4, abs=1e-20)


# Reading thresholds


@pytest.mark.parametrize("text", TYPED)
def test_rule_is_written_as_it_was_typed(text: str) -> None:
    assert str(parse_threshold(text)) == text


@given(
    st.sampled_from(["image-fpr", "pixel-fpr"]), st.floats(0, 1, exclude_min=True, exclude_max=True)
)
def test_rule_survives_being_written_and_read_to_the_last_digit(kind: str, rate: float) -> None:
    rule = ThresholdRule(kind, rate)  # type: ignore[arg-type]
    assert parse_threshold(str(rule)) == rule


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_is_read_as_it_is(value: float) -> None:
    read = parse_threshold(str(value))
    assert isinstance(read, float)
    assert read == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "nan", "inf", "-inf", "5%", "0,5", "median", "image-fpr", "image-fpr=", "max=1"),
        *("image-fpr=0", "image-fpr=1", "image-fpr=-0.1", "image-fpr=nan", "pixel-fpr=1.5"),
        *("IMAGE-FPR=0.1", "image-fpr=5%", "=0.5", "fpr=0.05"),
    ],
)
def test_other_thresholds_are_refused_with_examples(text: str) -> None:
    message = rf"^--threshold must be a number, max, image-fpr=0\.05 or .*, got {text}$"
    with pytest.raises(ConfigError, match=message):
        parse_threshold(text)


def draw_maps(count: int, side: int = 16, seed: int = 0) -> list[np.ndarray]:
    """Make maps whose left half varies ten times as much as their right half."""
    spread = np.where(np.arange(side) < side // 2, 10.0, 1.0)
    generator = np.random.default_rng(seed)
    return [
        (5 + spread * generator.normal(size=(side, side))).astype(np.float32) for _ in range(count)
    ]


def test_global_scores_have_mean_0_and_deviation_1_on_normal_pixels() -> None:
    maps = draw_maps(6)
    scale, calibration = calibrate_map(maps, 16).select("global")
    assert scale is not None
    scores = np.stack([scale(anomaly_map) for anomaly_map in maps])
    assert scores.mean() == pytest.approx(0, abs=1e-5)
    assert scores.std() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(calibration.maxima, np.sort(scores.max(axis=(1, 2))), rtol=1e-5)


def draw_defects(maps: list[np.ndarray]) -> list[MarkedMap]:
    """Set a block of each map to 60, which exceeds every normal pixel."""
    mask = np.zeros(maps[0].shape, bool)
    mask[5:9, 3:12] = True
    return [MarkedMap(np.where(mask, np.float32(60), anomaly_map), mask) for anomaly_map in maps]


@pytest.mark.parametrize("scores", ["raw", "global", "position"])
def test_outline_is_that_of_the_scores(scores: Scores) -> None:
    """It separates synthetic defects from the ground, in the units of the map."""
    maps = draw_maps(5)
    calibration_of_map = calibrate_map(maps, 16, draw_defects(maps))
    scale, calibration = calibration_of_map.select(scores)
    for anomaly_map, mask in draw_defects(maps):
        scored = anomaly_map if scale is None else scale(anomaly_map)
        assert scored[~mask].max() < calibration.outline < scored[mask].min() * (1 + 1e-6)
    assert calibration.threshold(ThresholdRule("max")).outline == calibration.outline
    assert np.isnan(calibration.threshold(1.5).outline), "a number is taken at its word"


@pytest.mark.parametrize("scores", ["raw", "global"])
def test_outline_of_halved_regions_is_that_of_faint_defects(scores: Scores) -> None:
    """Blocks of 100 on a slope of 45 end halfway up by themselves, and one of 35 does not."""
    maps = draw_maps(5)
    mask = draw_defects(maps)[0].mask
    around = np.zeros(mask.shape, bool)
    around[4:10, 2:13] = True
    sloped = [np.where(mask, 100, np.where(around, 45, normal)) for normal in maps[:4]]
    faint = np.where(mask, np.float32(35), maps[4])
    marked = [MarkedMap(each.astype(np.float32), mask) for each in (*sloped, faint)]
    outlines = []
    for is_halved in (False, True):
        stored = calibrate_map(maps, 16, marked, is_halved=is_halved)
        scale, calibration = stored.select(scores)
        outlines.append(calibration.outline)
    faintest = (faint if scale is None else scale(faint))[mask].min()
    assert outlines[1] < faintest * (1 + 1e-6) < outlines[0]


def test_outline_of_a_useless_map_does_not_take_in_the_whole_image() -> None:
    """At most one normal pixel in a hundred lies above it."""
    maps = draw_maps(5)
    blind = [MarkedMap(anomaly_map, anomaly_map < 5) for anomaly_map in maps]
    raw = calibrate_map(maps, 16, blind).raw
    assert raw.outline == raw.exceeded_by(0.01)
    assert np.mean(np.stack(maps) > raw.outline) <= 0.01


def test_range_of_rates_holds_nine_models_of_ten() -> None:
    """Each model has 39 normal images; the rate of its threshold among all others is known."""
    generator = np.random.default_rng(0)
    rule = ThresholdRule("image-fpr", 0.05)
    nowhere = np.zeros(len(EXCEEDANCE), np.float32)
    rates, ranges = [], set()
    for _ in range(2000):
        maxima = np.sort(generator.random(39)).astype(np.float32)
        threshold = Calibration(maxima, nowhere).threshold(rule)
        rates.append(1 - threshold.value)
        ranges.add(threshold.rates)
    ((low, high),) = ranges
    assert 0 < low < 0.05 < high < 0.2
    assert np.mean(rates) == pytest.approx(0.05, abs=0.002)
    assert np.mean([low <= rate <= high for rate in rates]) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("rule", ["max", "image-fpr=0.05", "image-fpr=0.2"])
def test_fewer_parts_than_images_widen_the_range(rule: str) -> None:
    """45 photographs of 21 parts are less certain than of 45, and 6 images less than 45."""
    widths = []
    for count, parts in ((45, None), (45, 21), (6, None)):
        calibration = Calibration(np.arange(count, dtype=np.float32), np.zeros(121, np.float32))
        rates = calibration.threshold(parse_threshold(rule), parts).rates
        assert rates is not None
        assert 0 <= rates[0] < rates[1] <= 1
        widths.append(rates[1] - rates[0])
    assert widths[0] < widths[1] < widths[2] or rule == "max"
    assert widths[0] < widths[1]


@pytest.mark.parametrize("rule", ["pixel-fpr=0.01", "3.5"])
def test_pixel_rules_and_given_numbers_have_no_range_of_rates(rule: str) -> None:
    calibration = Calibration(np.arange(9, dtype=np.float32), np.zeros(121, np.float32))
    assert calibration.threshold(parse_threshold(rule)).rates is None


def test_raw_scores_are_the_map() -> None:
    maps = draw_maps(4)
    scale, calibration = calibrate_map(maps, 16).select("raw")
    assert scale is None
    assert calibration.maxima[-1] == max(anomaly_map.max() for anomaly_map in maps)


def test_scores_per_position_are_lower_where_normal_images_vary_more() -> None:
    """The value 15 is extreme in the right half and usual in the left half."""
    scale, _calibration = calibrate_map(draw_maps(60), 16).select("position")
    assert scale is not None
    scores = scale(np.full((16, 16), 15, np.float32))
    assert scores[:, 8:].mean() > 2 * scores[:, :8].mean()


def test_variance_per_position_is_shrunk_as_if_ten_more_images_had_the_pooled_one() -> None:
    """Three images at 0, 1.5 and 3 left, at 0 right: variances 1.5 and 0, pooled 0.75."""
    maps = [np.array([[left, 0], [left, 0]], np.float32) for left in (0, 1.5, 3)]
    scale, _calibration = calibrate_map(maps, 2).select("position")
    assert scale is not None
    np.testing.assert_allclose(scale.mean, [[1.5, 0]] * 2)
    variances = [(3 * 1.5 + 10 * 0.75) / 13, 10 * 0.75 / 13]
    np.testing.assert_allclose(scale.std**2, [variances] * 2, rtol=1e-6)


def test_scores_per_position_are_calibrated_on_images_left_out_of_the_scale() -> None:
    """New normal images exceed the largest score about 1 time in N + 1, not far more often."""
    calibration = calibrate_map(draw_maps(19, seed=1), 16)
    scale, of_scores = calibration.select("position")
    assert scale is not None
    new = [scale(anomaly_map).max() for anomaly_map in draw_maps(400, seed=2)]
    assert np.mean(new > of_scores.maxima[-1]) < 0.15
    in_sample = max(scale(anomaly_map).max() for anomaly_map in draw_maps(19, seed=1))
    assert in_sample < of_scores.maxima[-1]


def test_too_few_images_have_no_scores_per_position() -> None:
    with pytest.raises(CheckpointError, match=r"needs 3 held-out normal images.* on 2; use global"):
        calibrate_map(draw_maps(2), 16).select("position")


def test_constant_maps_can_be_calibrated() -> None:
    calibration = calibrate_map([np.full((8, 8), 3, np.float32)] * 3, 8)
    for kind in ("global", "position"):
        scale, _ = calibration.select(kind)
        assert scale is not None
        scores = scale(np.array([[3, 4]], np.float32))
        assert scores[0, 0] == pytest.approx(0, abs=1e-3)
        assert np.isfinite(scores).all()
        assert scores[0, 1] > 100
