"""Streaming counts against exact ones, most of all where many scores share a bin."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st
from numpy.typing import NDArray
from pixel_counts import ExactCounts, PixelCounts, count_image

from anomaly_cli.metrics.confusion import Confusion, confusion
from anomaly_cli.metrics.counts import StreamingCounts
from anomaly_cli.metrics.detection import PixelMetrics, pixel_metrics
from anomaly_cli.metrics.keys import score_keys
from anomaly_cli.metrics.pixels import find_regions

METRICS = ("pixel_auroc", "average_precision", "best_f1", "best_iou", "aupro")
KINDS = ["log-normal", "Cauchy", "rectified", "infinite", "one bin", "few bins"]


class Sample(NamedTuple):
    """One image."""

    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]


def draw_scores(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    steps = rng.integers(0, 40, shape)
    return {
        "log-normal": rng.lognormal(sigma=3, size=shape),
        "Cauchy": rng.standard_cauchy(shape),
        "rectified": np.maximum(rng.normal(size=shape), 0),
        "infinite": rng.choice([-np.inf, -1e-45, -0.0, 0.0, 1e-45, np.inf], shape),
        "one bin": 1 + steps * 2.0**-23,
        "few bins": -(2.0 ** (steps % 3)) * rng.uniform(1, 1.001, shape),
    }[kind]


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """One to four images with a block and specks, at least one pixel of each class."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 4)), draw(st.integers(2, 9)), draw(st.integers(2, 9)))
    masks = rng.random(shape) < draw(st.sampled_from([0.02, 0.2, 0.8]))
    masks[0, : shape[1] // 2, : shape[2] // 2] = True
    masks[-1, -1, -1] = False
    maps = draw_scores(rng, draw(st.sampled_from(KINDS)), shape).astype(np.float32)
    return [Sample(*pair) for pair in zip(maps, masks, strict=True)]


def measure(counts: PixelCounts, samples: list[Sample], fpr_limit: float = 0.3) -> PixelMetrics:
    for sample in samples:
        count_image(counts, *sample)
    return pixel_metrics(counts.ranking(), fpr_limit=fpr_limit)


@settings(max_examples=300, deadline=None)
@given(samples(), st.sampled_from([8, 11, 14, 20]), st.sampled_from([0.05, 0.3, 1.0]))
def test_streaming_stays_within_its_bound(samples: list[Sample], bits: int, limit: float) -> None:
    exact = measure(ExactCounts(), samples, limit)
    streaming = measure(StreamingCounts(bits=bits), samples, limit)
    for name in METRICS:
        error = abs(getattr(streaming, name) - getattr(exact, name))
        bound = getattr(streaming.bounds, name)
        assert 0 <= bound <= 1
        assert error <= bound + 1e-10, name
        if bound > 1e-9:
            target(error / bound, label=name)


def test_streaming_bound_holds_for_every_order_inside_a_bin() -> None:
    """All scores and labels of four pixels in one bin, below and above others in other bins."""
    step = np.float32(2.0**-23)
    closest = dict.fromkeys(METRICS, 0.0)  # error as a share of its bound
    for labels in itertools.product([False, True], repeat=4):
        for ranks in itertools.product(range(4), repeat=4):
            mask = np.array([[True, False, *labels, False, False, True]])
            inside = 1 + step * np.array(ranks, np.float32)
            sample = Sample(np.array([[8, 4, *inside, 0.2, 0.1, 0.1]], np.float32), mask)
            exact = measure(ExactCounts(), [sample], 0.7)
            streaming = measure(StreamingCounts(bits=8), [sample], 0.7)
            for name in METRICS:
                error = abs(getattr(streaming, name) - getattr(exact, name))
                bound = getattr(streaming.bounds, name)
                assert error <= bound + 1e-10, (name, labels, ranks)
                closest[name] = max(closest[name], error / max(bound, 1e-9))
    # A bound that no error comes near would be needlessly wide.
    assert min(closest.values()) > 0.9, closest


@settings(max_examples=100, deadline=None)
@given(samples(), st.sampled_from([8, 20]), st.integers(1, 40))
def test_edges_cut_bins_and_keep_the_bound(samples: list[Sample], bits: int, count: int) -> None:
    """At keys of the samples and just above them; bounds only get smaller, parts still merge."""
    keys = np.unique(np.concatenate([score_keys(sample.anomaly_map).ravel() for sample in samples]))
    edges = np.unique(np.append(keys[:: max(1, keys.size // count)], keys[-1:] + np.uint32(1)))
    exact = measure(ExactCounts(), samples)
    coarse = measure(StreamingCounts(bits=bits), samples)
    parts = [StreamingCounts(bits, edges) for _sample in samples]
    for part, sample in zip(parts, samples, strict=True):
        count_image(part, *sample)
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    fine = pixel_metrics(merged.ranking())
    assert fine == measure(StreamingCounts(bits, edges), samples)
    for name in METRICS:
        error = abs(getattr(fine, name) - getattr(exact, name))
        assert error <= getattr(fine.bounds, name) + 1e-10, name
    # Not of an optimum: its bound is what its value leaves open, and the value rises as well.
    for name in ("pixel_auroc", "average_precision", "aupro"):
        assert getattr(fine.bounds, name) <= getattr(coarse.bounds, name) + 1e-10, name


def test_counts_of_other_edges_do_not_merge() -> None:
    with pytest.raises(
        ValueError, match="cannot merge counts of 20 and 20 bits, or of other edges"
    ):
        StreamingCounts().merge(StreamingCounts(edges=np.array([7], np.uint32)))


def test_an_edge_at_every_key_is_exact() -> None:
    """Forty scores in one bin of the upper bits, each with a bin of its own."""
    rng = np.random.default_rng(0)
    mask = rng.random((30, 30)) < 0.2
    values = (1 + rng.integers(0, 40, mask.shape) * 2.0**-23).astype(np.float32)
    edges = np.unique(score_keys(values))
    assert measure(StreamingCounts(), [Sample(values, mask)]).bounds.pixel_auroc > 0.4
    fine = measure(StreamingCounts(edges=edges), [Sample(values, mask)])
    assert max(fine.bounds) == 0
    assert fine[:-1] == pytest.approx(
        measure(ExactCounts(), [Sample(values, mask)])[:-1], abs=1e-10
    )


@settings(max_examples=50, deadline=None)
@given(samples())
def test_the_best_iou_of_streaming_is_that_of_its_threshold(samples: list[Sample]) -> None:
    metrics = measure(StreamingCounts(bits=9), samples)
    threshold = metrics.best_iou_threshold
    counted = sum((confusion(*sample, threshold=threshold) for sample in samples), Confusion())
    if threshold > -np.inf:
        assert counted.iou == pytest.approx(metrics.best_iou)


def test_streaming_is_exact_on_scores_of_few_values() -> None:
    """A rectified map of 8 bits: ties of both classes cost nothing, not even the many zeros."""
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), np.bool_)
    mask[20:40, 10:30] = True
    values = np.clip(rng.normal(40 * mask, 60), 0, 255).astype(np.uint8).astype(np.float32)
    exact = measure(ExactCounts(), [Sample(values, mask)])
    streaming = measure(StreamingCounts(), [Sample(values, mask)])
    assert max(streaming.bounds) == 0
    assert streaming[:-1] == pytest.approx(exact[:-1], abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(samples())
def test_shares_of_regions_are_never_off_by_more_than_half_a_share(samples: list[Sample]) -> None:
    """From the lowest score upward; rounding each pixel alone would add up in a large region."""
    for anomaly_map, mask in samples:
        regions = find_regions(mask)
        area_of_pixel = np.zeros(mask.shape, np.int64)
        area_of_pixel[mask] = regions.areas[regions.labels]
        areas = np.unique(regions.areas)
        for chosen in [areas, *areas[:, None]]:  # all regions, then those of one area
            counts = StreamingCounts(8, np.unique(score_keys(anomaly_map)))  # a bin for each score
            of_areas = np.isin(area_of_pixel, chosen)
            count_image(counts, anomaly_map, of_areas)
            positives, _negatives, shares = counts.histogram
            given_out = np.cumsum(shares[positives > 0])
            scores = anomaly_map[of_areas]
            weights = 2**36 / area_of_pixel[of_areas]
            due = [weights[scores <= score].sum() for score in np.unique(scores)]
            assert given_out[-1:].sum() == np.isin(regions.areas, chosen).sum() * 2**36
            assert (np.abs(given_out - due) <= 0.5 * chosen.size + 1e-3).all()


def test_more_bits_give_smaller_bounds() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((64, 64)) < 0.2
    values = rng.lognormal(mask, 1).astype(np.float32)
    bounds = [
        measure(StreamingCounts(bits=bits), [Sample(values, mask)]).bounds for bits in (8, 14, 20)
    ]
    assert bounds[0].pixel_auroc > 10 * bounds[1].pixel_auroc > 100 * bounds[2].pixel_auroc
    assert max(bounds[2]) < 1e-3
