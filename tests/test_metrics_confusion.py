import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_cli.errors import DataError
from anomaly_cli.metrics.confusion import Confusion, confusion, find


def test_rates_of_six_pixels_by_hand() -> None:
    """Two of three anomalous pixels found, one of three normal ones called anomalous."""
    scores = np.array([[3, 3, 1], [2, 1, 3]], np.float32)
    mask = np.array([[True, True, True], [False, False, False]])
    result = confusion(scores, mask, threshold=2.0)
    assert result == Confusion(true_positives=2, false_positives=1, positives=3, negatives=3)
    assert result.precision == result.recall == result.f1 == pytest.approx(2 / 3)
    assert result.iou == 0.5
    assert result.false_positive_rate == pytest.approx(1 / 3)


def test_region_without_a_pixel_in_the_mask_is_missed() -> None:
    """Three regions, two of which touch the mask; what lies outside all of them is wrong."""
    mask = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 0, 1, 0, 1]], bool)
    called = np.array([[0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1]], bool)
    found = find(called, mask)
    assert found.missed_regions == 1
    assert found.pixels == Confusion(3, 1, 6, 6)
    assert find(~mask & ~called, mask).missed_regions == 3


def test_a_score_at_the_threshold_is_normal() -> None:
    one = np.ones((1, 1), np.float32)
    assert confusion(one, one > 0, threshold=1.0).recall == 0.0
    assert confusion(one, one > 0, threshold=np.nextafter(np.float32(1), 0)).recall == 1.0


def test_rates_without_a_denominator_are_nan() -> None:
    empty = Confusion(positives=0, negatives=4)
    rates = (empty.precision, empty.recall, empty.iou, empty.f1)
    assert all(math.isnan(rate) for rate in rates)
    assert empty.false_positive_rate == 0.0
    assert math.isnan(Confusion(positives=4).false_positive_rate)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.floats(-2, 2), min_size=2, max_size=5))
def test_a_higher_threshold_never_grows_a_mask(seed: int, thresholds: list[float]) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(5, 6)).astype(np.float32).round(1)
    mask = rng.random((5, 6)) < 0.4
    results = [confusion(scores, mask, threshold=value) for value in sorted(thresholds)]
    for lower, higher in itertools.pairwise(results):
        assert higher.true_positives <= lower.true_positives
        assert higher.false_positives <= lower.false_positives
    lowest = confusion(scores, mask, threshold=-np.inf)
    assert (lowest.true_positives, lowest.false_positives) == (mask.sum(), (~mask).sum())


def test_counts_of_parts_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(8, 6)).astype(np.float32)
    mask = rng.random((8, 6)) < 0.4
    parts = [confusion(scores[i : i + 2], mask[i : i + 2], threshold=0.1) for i in range(0, 8, 2)]
    assert sum(parts, Confusion()) == confusion(scores, mask, threshold=0.1)


def test_nan_is_refused_by_name() -> None:
    scores = np.full((1, 2), np.nan, np.float32)
    with pytest.raises(DataError, match=r"a\.npy has 2 NaN"):
        confusion(scores, scores > 0, threshold=0.0, name="a.npy")
