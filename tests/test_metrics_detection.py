import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pixel_counts import ExactCounts, PixelCounts, count_image
from sklearn.metrics import average_precision_score, roc_auc_score

from anomaly_cli.errors import DataError
from anomaly_cli.metrics.counts import StreamingCounts
from anomaly_cli.metrics.detection import PixelMetrics, image_metrics, pixel_metrics


def measure(scores: object, mask: object, fpr_limit: float = 0.3) -> PixelMetrics:
    counts = ExactCounts()
    count_image(counts, np.array(scores, np.float32), np.array(mask, np.bool_))
    return pixel_metrics(counts.ranking(), fpr_limit=fpr_limit)


def test_aupro_of_half_covered_region() -> None:
    """A map that lights exactly half of the only region, and nothing else, overlaps one half."""
    mask = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    lit = [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    # The rest ties at 0: a line from an overlap of 1/2 at FPR 0 to 1 at FPR 1.
    assert measure(lit, mask).aupro == pytest.approx(0.5 + 0.3 / 4)
    assert measure(lit, mask, fpr_limit=1e-9).aupro == pytest.approx(0.5)
    below = [[3, 3, 1, 1], [2, 2, 2, 2], [2, 2, 2, 2]]
    assert measure(below, mask).aupro == 0.5
    assert measure(below, mask, fpr_limit=1.0).aupro == 0.5
    assert measure(below, mask).pixel_auroc == 0.5


def test_aupro_counts_regions_not_pixels() -> None:
    """Finding the region of one pixel and not that of three is half, not a quarter."""
    mask = [[1, 0, 1, 1, 1, 0]]
    assert measure([[3, 2, 1, 1, 1, 2]], mask).aupro == pytest.approx(0.5)
    assert measure([[3, 2, 1, 1, 1, 2]], mask).pixel_auroc == 0.25


def test_metrics_of_five_pixels_by_hand() -> None:
    """Scores 5 to 1 with labels + - + - -."""
    metrics = measure([[5, 4, 3, 2, 1]], [[1, 0, 1, 0, 0]])
    assert metrics.pixel_auroc == pytest.approx(5 / 6)
    assert metrics.average_precision == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert metrics.best_f1 == pytest.approx(2 * 2 / (2 + 3))
    assert metrics.best_iou == pytest.approx(2 / 3)
    assert metrics.best_iou_threshold == np.nextafter(np.float32(3), np.float32(0))


def test_the_whole_map_is_best_called_anomalous_where_the_anomaly_scores_lowest() -> None:
    metrics = measure([[np.inf, 1, 0, -0.0]], [[0, 0, 0, 1]])
    assert metrics.best_iou == 0.25
    assert metrics.best_iou_threshold < 0
    assert metrics.pixel_auroc == pytest.approx(1 / 6)
    assert measure([[1, -np.inf]], [[0, 1]]).best_iou_threshold == -np.inf


def test_perfect_and_constant_maps() -> None:
    mask = [[1, 0, 0, 0]]
    assert measure([[1, 0, 0, 0]], mask)[:2] == (1, 1)
    constant = measure([[7, 7, 7, 7]], mask)
    assert constant.pixel_auroc == 0.5
    assert constant.average_precision == 0.25
    assert constant.aupro == pytest.approx(0.15)


@pytest.mark.parametrize("new", [ExactCounts, StreamingCounts])
@pytest.mark.parametrize("value", [False, True])
def test_metrics_of_one_class_are_nan(new: Callable[[], PixelCounts], *, value: bool) -> None:
    one = new()
    count_image(one, np.ones((2, 2), np.float32), np.full((2, 2), value))
    for ranking in (one.ranking(), new().ranking()):
        metrics = pixel_metrics(ranking)
        assert metrics.aupro_fpr_limit == 0.3
        assert all(math.isnan(number) for number in (*metrics[:7], *metrics.bounds))


@pytest.mark.parametrize("limit", [0.0, 1.1, math.nan])
def test_a_limit_that_is_no_rate_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="fpr_limit"):
        measure([[1, 2]], [[0, 1]], fpr_limit=limit)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40),
    st.sampled_from([np.float32, np.float64]),
)
def test_image_metrics_are_those_of_scikit_learn(
    images: list[tuple[int, bool]], dtype: type[np.float64]
) -> None:
    scores = np.array([score / 3 for score, _ in images], dtype)
    labels = np.array([is_anomalous for _, is_anomalous in images])
    metrics = image_metrics(scores, labels)
    if labels.all() or not labels.any():
        assert all(math.isnan(number) for number in metrics)
        return
    assert metrics.image_auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert metrics.average_precision == pytest.approx(average_precision_score(labels, scores))
    called = scores >= np.unique(scores)[:, None]
    f1 = 2 * (called & labels).sum(axis=1) / (called.sum(axis=1) + labels.sum())
    assert metrics.best_f1 == pytest.approx(f1.max())
    best = scores > metrics.best_f1_threshold
    assert 2 * (best & labels).sum() / (best.sum() + labels.sum()) == pytest.approx(f1.max())


def test_image_scores_may_be_infinite_but_not_nan() -> None:
    labels = np.array([True, True, False, False])
    assert image_metrics(np.array([np.inf, 1.0, 1.0, -np.inf]), labels).image_auroc == 0.875
    with pytest.raises(DataError, match="1 of 4 image scores are NaN"):
        image_metrics(np.array([np.nan, 1.0, 1.0, 2.0]), labels)
    with pytest.raises(ValueError, match="one score and one bool"):
        image_metrics(np.array([1.0, 2.0]), labels)


def test_image_scores_of_float64_are_not_rounded() -> None:
    scores = np.array([1.0 + 1e-12, 1.0])
    assert image_metrics(scores, np.array([True, False])).image_auroc == 1.0


def test_perfect_maps_have_areas_of_one_and_not_an_epsilon_more() -> None:
    """300 distinct positives above all negatives: 300 times 1/300 sums to 1 + 2e-16."""
    for count in range(2, 400):
        scores = np.arange(count + 3, dtype=np.float32)
        metrics = image_metrics(scores, scores >= 3)
        assert metrics.image_auroc <= 1.0
        assert metrics.average_precision <= 1.0
        assert metrics.image_auroc == pytest.approx(1.0)


@pytest.mark.parametrize("count", [3, 7, 49, 63, 1000])
def test_a_perfect_ranking_has_exactly_one(count: int) -> None:
    """A gate of 1 must pass: 63 times a 63rd is less than 1 in float64."""
    scores = np.concatenate([np.linspace(2, 3, count), np.linspace(0, 1, 20)])
    found = image_metrics(scores, np.arange(len(scores)) < count)
    assert (found.image_auroc, found.average_precision, found.best_f1) == (1.0, 1.0, 1.0)
