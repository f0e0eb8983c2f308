import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pixel_counts import ExactCounts, count_image
from sklearn.metrics import auc

from anomaly_cli.metrics.confusion import confusion
from anomaly_cli.metrics.counts import StreamingCounts
from anomaly_cli.metrics.curves import detection_curves
from anomaly_cli.metrics.detection import pixel_metrics
from anomaly_cli.metrics.ranking import Ranking


def draw(seed: int, decimals: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    mask = rng.random((40, 50)) < 0.1
    return rng.normal(2 * mask, 1).round(decimals).astype(np.float32), mask


def rank(scores: NDArray[np.float32], mask: NDArray[np.bool_]) -> Ranking:
    counts = ExactCounts()
    count_image(counts, scores, mask)
    return counts.ranking()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 6]))
def test_areas_under_the_full_curves_are_the_metrics(seed: int, decimals: int) -> None:
    ranking = rank(*draw(seed, decimals))
    curves = detection_curves(ranking, max_points=10**6)
    metrics = pixel_metrics(ranking, fpr_limit=1.0)
    assert auc(curves.false_positive_rate, curves.recall) == pytest.approx(metrics.pixel_auroc)
    assert auc(curves.false_positive_rate, curves.overlap) == pytest.approx(metrics.aupro)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 6]), st.sampled_from([10, 50, 200]))
def test_thinned_curves_keep_their_shape(seed: int, decimals: int, max_points: int) -> None:
    ranking = rank(*draw(seed, decimals))
    full = detection_curves(ranking, max_points=10**6)
    thin = detection_curves(ranking, max_points=max_points)
    assert thin.recall.size <= max_points
    assert [curve[0] for curve in thin] == [0, 0, 0, np.inf]
    assert [curve[-1] for curve in thin[:3]] == [1, 1, 1]
    assert all((np.diff(curve) >= 0).all() for curve in thin[:3])
    assert (np.diff(thin.threshold) < 0).all()
    # Over fpr + recall the curve is a function, and between points a line.
    along_full = full.false_positive_rate + full.recall
    along_thin = thin.false_positive_rate + thin.recall
    recall = np.interp(along_full, along_thin, thin.recall)
    assert np.abs(recall - full.recall).max() <= 3 / (max_points - 1)


def test_a_point_of_the_curves_is_the_mask_at_its_threshold() -> None:
    scores, mask = draw(3, 1)
    curves = detection_curves(rank(scores, mask), max_points=30)
    for fpr, recall, _, threshold in list(zip(*curves, strict=True))[:-1]:
        result = confusion(scores, mask, threshold=threshold)
        assert (result.false_positive_rate, result.recall) == pytest.approx((fpr, recall))


def test_curve_of_half_covered_region_passes_through_one_half() -> None:
    mask = np.array([[True, True, False, False]])
    curves = detection_curves(rank(np.array([[3, 1, 2, 2]], np.float32), mask))
    assert curves.overlap[curves.false_positive_rate == 0].max() == 0.5
    assert curves.overlap[(curves.false_positive_rate > 0)].tolist() == [0.5, 1.0]


def test_curves_of_streaming_counts_pass_through_points_of_the_exact_ones() -> None:
    scores, mask = draw(0, 1)
    counts = StreamingCounts(bits=20)
    count_image(counts, scores, mask)
    exact = detection_curves(rank(scores, mask), max_points=100)
    np.testing.assert_allclose(detection_curves(counts.ranking(), max_points=100), exact)


def test_without_two_classes_there_is_no_curve() -> None:
    assert detection_curves(ExactCounts().ranking()).recall.size == 0
    with pytest.raises(ValueError, match="max_points"):
        detection_curves(rank(*draw(0, 1)), max_points=1)
