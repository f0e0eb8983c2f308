"""Intervals: draws keep the strata, bins stay within their bounds, ends have a closed form."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from anomaly_cli.metrics.bootstrap import (
    QUANTILES,
    Interval,
    ReplicateCounts,
    _bin_pixels,
    choose_edges,
    draw_weights,
    percentile_interval,
    resample_images,
    widen,
)
from anomaly_cli.metrics.detection import PixelBounds, PixelMetrics, pixel_metrics
from anomaly_cli.metrics.images import ImagePixels, rank_pixels, sort_pixels


def draw_images(count: int, *, spike: bool = False) -> list[ImagePixels]:
    """Log-normal maps (64, 64), every other with a block of higher scores; half zeros if spike."""
    rng = np.random.default_rng(0)
    images = []
    for index in range(count):
        mask = np.zeros((64, 64), bool)
        if index % 2:
            mask[10:20, 30:50] = True
        scores = np.exp(rng.standard_normal((64, 64)) + mask * rng.uniform(0, 3))
        if spike:
            scores[rng.random((64, 64)) < 0.5] = 0.0
        images.append(sort_pixels(scores.astype(np.float32), mask))
    return images


def test_draws_have_as_many_images_of_each_type_as_the_split() -> None:
    strata = ["good", "hole", "good", "cut", "hole", "hole"]
    weights = draw_weights(strata, replicates=200, seed=0, name="bottle")
    for stratum, size in {"good": 2, "hole": 3, "cut": 1}.items():
        own = weights[:, [kind == stratum for kind in strata]]
        assert (own.sum(axis=1) == size).all()
    assert weights[:, 0].min() == 0
    assert weights[:, 0].max() == 2


def test_draws_depend_on_seed_and_category_alone() -> None:
    def draw(seed: int, name: str) -> NDArray[np.uint8]:
        return draw_weights(["good"] * 5, replicates=20, seed=seed, name=name)

    np.testing.assert_array_equal(draw(1, "a"), draw(1, "a"))
    assert (draw(1, "a") != draw(2, "a")).any()
    assert (draw(1, "a") != draw(1, "b")).any()


def draw_metrics(images: list[ImagePixels], weights: NDArray[np.uint8]) -> list[PixelMetrics]:
    """Metrics over the shared bins: of all images, then of each draw."""
    pools = [image.pixels for image in images]
    counts = ReplicateCounts(choose_edges(pools), replicates=len(weights))
    for pool, column in zip(pools, weights.T, strict=True):
        counts.add(pool, column)
    return counts.metrics()


def no_draws(count: int) -> NDArray[np.uint8]:
    return np.zeros((0, count), np.uint8)


@pytest.mark.parametrize("spike", [False, True])
def test_bins_are_few_and_their_metrics_within_the_bounds(spike: bool) -> None:
    """Also where half of the pixels share one score, as after a rectifier: it is a bin alone."""
    images = draw_images(30, spike=spike)
    pools = [image.pixels for image in images]
    assert choose_edges(pools).size <= 2 * QUANTILES + 1
    exact = pixel_metrics(rank_pixels(pools))
    (binned,) = draw_metrics(images, no_draws(30))
    for name in PixelBounds._fields:
        error = abs(getattr(binned, name) - getattr(exact, name))
        bound = getattr(binned.bounds, name)
        assert error <= bound + 1e-12, name
        assert bound < 0.002, name


def test_bins_of_an_image_count_every_pixel_and_region_once() -> None:
    for index, image in enumerate(draw_images(6)):
        positives, negatives, overlap = _bin_pixels(image.pixels, choose_edges([image.pixels]))
        assert positives.sum() == 200 * (index % 2)
        assert negatives.sum() == 4096 - 200 * (index % 2)
        assert overlap.sum() == pytest.approx(index % 2)


@pytest.mark.parametrize("count", [8, 150])
def test_a_replicate_is_the_metric_of_the_images_it_draws(count: int) -> None:
    """Images drawn twice count twice, others not at all; 150 are more than are held at a time."""
    images = draw_images(count)
    weights = np.zeros((3, count), np.uint8)
    weights[1, [0, 3, 5, 6]] = [2, 1, 3, 2]
    weights[2, [1, count - 2]] = 1
    chosen = [images[place] for place in (0, 0, 3, 5, 5, 5, 6, 6)]
    exact = pixel_metrics(rank_pixels([image.pixels for image in chosen]))
    _whole, undefined, drawn, _other = draw_metrics(images, weights)
    assert math.isnan(undefined.pixel_auroc)
    for name in PixelBounds._fields:
        assert getattr(drawn, name) == pytest.approx(
            getattr(exact, name), abs=getattr(drawn.bounds, name) + 1e-12
        )


def test_edges_of_other_images_cost_accuracy_within_the_bound() -> None:
    """Streaming chooses the bins by a few images; the others may lie elsewhere."""
    images = draw_images(12)
    edges = choose_edges([image.pixels for image in images[:1]])
    counts = ReplicateCounts(edges, replicates=0)
    for image in images:
        counts.add(image.pixels, np.zeros(0, np.uint8))
    exact = pixel_metrics(rank_pixels([image.pixels for image in images]))
    (binned,) = counts.metrics()
    assert binned.bounds.pixel_auroc > 0
    for name in PixelBounds._fields:
        error = abs(getattr(binned, name) - getattr(exact, name))
        assert error <= getattr(binned.bounds, name) + 1e-12, name


def test_equal_images_leave_no_doubt() -> None:
    images = [draw_images(2)[1]] * 9
    weights = draw_weights(["hole"] * 9, replicates=50, seed=0, name="")
    aurocs = [metrics.pixel_auroc for metrics in draw_metrics(images, weights)]
    interval = percentile_interval(np.array(aurocs))
    assert interval.low == interval.high


def test_interval_of_a_share_is_binomial() -> None:
    """80 of 100 images lie above all normal ones; the AUROC is their share, so B(100, 0.8) / 100.

    The 2.5% and 97.5% quantiles of that binomial are 72 and 88 (normal: 0.8 +- 1.96 * 0.04).
    """
    scores = np.array([2.0] * 80 + [0.0] * 20 + [1.0])
    labels = np.array([True] * 100 + [False])
    weights = draw_weights(["hole"] * 100 + ["good"], replicates=4000, seed=0, name="")
    aurocs = [metrics.image_auroc for metrics in resample_images(scores, labels, weights)]
    low, high = percentile_interval(np.array(aurocs))
    assert low == pytest.approx(0.72, abs=0.011)
    assert high == pytest.approx(0.88, abs=0.011)


def test_undefined_replicates_are_left_out_and_alone_give_undefined() -> None:
    assert percentile_interval(np.array([0.5, math.nan, 0.5])) == (0.5, 0.5)
    assert all(map(math.isnan, percentile_interval(np.array([math.nan]))))
    assert all(map(math.isnan, percentile_interval(np.zeros(0))))


def test_shift_moves_both_ends_within_the_unit_interval() -> None:
    assert percentile_interval(np.array([0.5, 0.5]), shift=0.25) == (0.75, 0.75)
    assert percentile_interval(np.array([0.9, 0.9]), shift=0.25) == (1.0, 1.0)


def test_split_without_anomalous_images_has_bins_but_no_metrics() -> None:
    (metrics,) = draw_metrics(draw_images(2)[:1], no_draws(1))
    assert math.isnan(metrics.pixel_auroc)


def test_range_of_the_exact_value_widens_an_interval_at_its_own_end() -> None:
    """0.5 may be 0.4 to 0.7, so an interval of 0.45 to 0.55 becomes 0.35 to 0.75."""
    widened = widen(Interval(0.45, 0.55), 0.5, Interval(0.4, 0.7))
    assert widened == pytest.approx((0.35, 0.75))
    assert widen(Interval(0.45, 0.55), 0.5, None) == (0.45, 0.55)
    assert widen(Interval(0.05, 0.95), 0.5, Interval(0.0, 1.0)) == (0.0, 1.0)
