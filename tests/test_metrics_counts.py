"""Exact counts against scikit-learn and naive loops; merging, exact and streaming."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pixel_counts import ExactCounts, PixelCounts, count_image
from skimage.measure import label
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from anomaly_cli.errors import DataError
from anomaly_cli.metrics.counts import StreamingCounts
from anomaly_cli.metrics.detection import PixelMetrics, pixel_metrics
from anomaly_cli.metrics.ranking import Ranking

METRICS = ("pixel_auroc", "average_precision", "best_f1", "best_iou", "aupro")
COUNTS = [ExactCounts, lambda: StreamingCounts(bits=8), lambda: StreamingCounts(bits=20)]
SPECIAL = [-np.inf, -1e30, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1e-40, 1.0, 3e38, np.inf]


class Sample(NamedTuple):
    """One image."""

    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]


DRAW: dict[str, Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "log-normal": lambda rng, shape: rng.lognormal(sigma=3, size=shape),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "constant": lambda rng, shape: np.full(shape, rng.normal()),
    "tied": lambda rng, shape: rng.integers(-2, 3, shape),
    "rectified": lambda rng, shape: np.maximum(rng.normal(size=shape), 0),
    "special": lambda rng, shape: rng.choice(SPECIAL, shape),
    "one bin": lambda rng, shape: 1 + rng.integers(0, 40, shape) * 2.0**-23,
    "few bins": lambda rng, shape: (
        -(2.0 ** rng.integers(0, 3, shape)) * rng.uniform(1, 1.001, shape)
    ),
}


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """One to four images with blocks and specks, of which at least one pixel of each class."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = DRAW[draw(st.sampled_from(sorted(DRAW)))]
    shape = (draw(st.integers(1, 4)), draw(st.integers(2, 9)), draw(st.integers(2, 9)))
    masks = rng.random(shape) < draw(st.sampled_from([0.02, 0.2, 0.8]))
    masks[0, : shape[1] // 2, : shape[2] // 2] = True
    masks[-1, -1, -1] = False
    shift = draw(st.sampled_from([0.0, 0.0, 1.0])) * masks  # sometimes the anomaly stands out
    maps = (values(rng, shape) + shift).astype(np.float32)
    return [Sample(*pair) for pair in zip(maps, masks, strict=True)]


def measure(counts: PixelCounts, samples: list[Sample], fpr_limit: float = 0.3) -> PixelMetrics:
    for sample in samples:
        count_image(counts, *sample)
    return pixel_metrics(counts.ranking(), fpr_limit=fpr_limit)


def flat(samples: list[Sample]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    maps, masks = zip(*samples, strict=True)
    return np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])


def naive_aupro(samples: list[Sample], limit: float) -> float:
    """Mean overlap of the regions at every threshold, over the false-positive rate."""
    scores, truth = flat(samples)
    called = scores >= np.unique(scores)[::-1, None]  # (T, pixels)
    labels, count = [], 0
    for sample in samples:
        found = label(sample.mask, connectivity=2)  # type: ignore[no-untyped-call]
        labels.append(np.where(found > 0, found + count, 0).ravel())
        count += found.max()
    of_region = np.concatenate(labels)
    overlap = np.mean([called[:, of_region == r + 1].mean(axis=1) for r in range(count)], axis=0)
    x = np.concatenate([[0.0], called[:, ~truth].mean(axis=1)])
    y = np.concatenate([[0.0], overlap])
    end = np.searchsorted(x, limit, side="right")
    if x[end - 1] < limit:  # else a point lies at the limit, and above it perhaps others
        y = np.append(y[:end], np.interp(limit, x, y))
        x = np.append(x[:end], limit)
        end += 1
    return float(auc(x[:end], y[:end]) / limit)


@settings(max_examples=150, deadline=None)
@given(samples())
def test_exact_ranking_metrics_are_those_of_scikit_learn(samples: list[Sample]) -> None:
    scores, truth = flat(samples)
    # scikit-learn refuses infinities; the ranks of the scores have the same order and ties.
    ranks = np.unique(scores, return_inverse=True)[1].reshape(scores.shape)
    metrics = measure(ExactCounts(), samples)
    assert metrics.pixel_auroc == pytest.approx(roc_auc_score(truth, ranks), abs=1e-9)
    assert metrics.average_precision == pytest.approx(
        average_precision_score(truth, ranks), abs=1e-9
    )
    assert max(metrics.bounds) == 0


@settings(max_examples=100, deadline=None)
@given(samples())
def test_exact_optima_are_those_of_a_search_over_all_thresholds(samples: list[Sample]) -> None:
    scores, truth = flat(samples)
    called = scores >= np.unique(scores)[:, None]
    found, wrong = (called & truth).sum(axis=1), (called & ~truth).sum(axis=1)
    metrics = measure(ExactCounts(), samples)
    assert metrics.best_f1 == pytest.approx(np.max(2 * found / (found + wrong + truth.sum())))
    assert metrics.best_iou == pytest.approx(np.max(found / (truth.sum() + wrong)))
    if metrics.best_iou_threshold > -np.inf:
        mask = scores > metrics.best_iou_threshold
        assert (mask & truth).sum() / (mask | truth).sum() == pytest.approx(metrics.best_iou)
    if metrics.best_f1_threshold > -np.inf:
        mask = scores > metrics.best_f1_threshold
        f1 = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert f1 == pytest.approx(metrics.best_f1)


@settings(max_examples=150, deadline=None)
@given(samples(), st.sampled_from([0.01, 0.05, 0.3, 0.77, 1.0]))
def test_exact_aupro_is_that_of_a_naive_loop(samples: list[Sample], limit: float) -> None:
    metrics = measure(ExactCounts(), samples, limit)
    assert metrics.aupro == pytest.approx(naive_aupro(samples, limit), abs=1e-9)


def fields(ranking: Ranking) -> dict[str, object]:
    return {name: np.asarray(value).tolist() for name, value in vars(ranking).items()}


@pytest.mark.parametrize("new", COUNTS)
@settings(max_examples=40, deadline=None)
@given(samples=samples(), seed=st.integers(0, 1000))
def test_merged_counts_are_those_of_the_union_in_any_order(
    new: Callable[[], ExactCounts], samples: list[Sample], seed: int
) -> None:
    whole = new()
    parts = [new() for _ in samples] + [new()]  # the last stays empty
    for sample, part in zip(samples, parts[:-1], strict=True):
        count_image(whole, *sample)
        count_image(part, *sample)
    order = np.random.default_rng(seed).permutation(len(parts))
    left = new()
    for index in order:
        left = left.merge(parts[index])
    right = new()
    for index in order[::-1]:
        right = parts[index].merge(right)
    assert fields(left.ranking()) == fields(whole.ranking()) == fields(right.ranking())


def test_negatives_of_several_images_are_all_counted() -> None:
    rng = np.random.default_rng(0)
    samples = [
        Sample(rng.integers(0, 99, (8, 9)).astype(np.float32), rng.random((8, 9)) < 0.2)
        for _ in range(8)
    ]
    scores, truth = flat(samples)
    metrics = measure(ExactCounts(), samples)
    assert metrics.pixel_auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert metrics.aupro == pytest.approx(naive_aupro(samples, 0.3), abs=1e-12)


@pytest.mark.parametrize("new", COUNTS)
def test_merging_changes_neither_part(new: Callable[[], ExactCounts]) -> None:
    sample = Sample(np.array([[1, 2, 3]], np.float32), np.array([[False, True, False]]))
    first, second = new(), new()
    count_image(first, *sample)
    count_image(second, *sample)
    merged = first.merge(second)
    count_image(merged, *sample)
    assert [counts.ranking().negatives for counts in (first, second, merged)] == [2, 2, 6]


def test_counts_of_different_bits_do_not_merge() -> None:
    with pytest.raises(ValueError, match="8 and 9 bits"):
        StreamingCounts(bits=8).merge(StreamingCounts(bits=9))
    with pytest.raises(ValueError, match="8 to 24"):
        StreamingCounts(bits=7)


@settings(max_examples=80, deadline=None)
@given(samples(), st.integers(0, 1000))
def test_strictly_increasing_maps_of_the_scores_change_nothing(
    samples: list[Sample], seed: int
) -> None:
    scores, _ = flat(samples)
    values = np.unique(scores)
    others = np.random.default_rng(seed).standard_cauchy(10 * values.size).astype(np.float32)
    others = np.unique(others)[: values.size]
    mapped = [
        Sample(others[np.searchsorted(values, sample.anomaly_map)], sample.mask)
        for sample in samples
    ]
    before, after = measure(ExactCounts(), samples), measure(ExactCounts(), mapped)
    assert [getattr(after, name) for name in METRICS] == [getattr(before, name) for name in METRICS]


@settings(max_examples=80, deadline=None)
@given(samples())
def test_negated_scores_give_the_complementary_auroc(samples: list[Sample]) -> None:
    negated = [Sample(-sample.anomaly_map, sample.mask) for sample in samples]
    value = measure(ExactCounts(), samples).pixel_auroc
    assert measure(ExactCounts(), negated).pixel_auroc == pytest.approx(1 - value, abs=1e-12)


@pytest.mark.parametrize("new", COUNTS)
def test_nan_scores_are_refused_by_name_and_leave_the_counts_alone(
    new: Callable[[], ExactCounts],
) -> None:
    counts = new()
    values = np.array([[1, np.nan], [np.nan, 2]], np.float32)
    with pytest.raises(DataError, match=r"a\.tiff has 2 NaN among 4 scores"):
        count_image(counts, values, np.eye(2, dtype=np.bool_), name="a.tiff")
    assert counts.ranking().positives == 0
