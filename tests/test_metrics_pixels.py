import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from anomaly_cli.errors import DataError
from anomaly_cli.metrics.pixels import check_pixels, find_regions, split_pixels


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.4, 0.7, 1.0]))
def test_regions_are_those_of_scikit_image(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random(rng.integers(1, 30, 2)) < density).T  # not contiguous in memory
    expected = label(mask, connectivity=2)  # type: ignore[no-untyped-call]
    regions = find_regions(mask)
    assert regions.areas.tolist() == np.bincount(regions.labels).tolist()
    pairs = set(zip(regions.labels.tolist(), expected[mask].tolist(), strict=True))
    assert len(pairs) == regions.areas.size == expected.max()


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    regions = find_regions(np.array([[1, 0, 0, 0], [0, 1, 0, 1]], np.bool_))
    assert regions.areas.tolist() == [2, 1]
    assert regions.labels.tolist() == [0, 0, 1]


def test_pixels_are_split_by_the_mask_row_by_row() -> None:
    mask = np.array([[False, True], [True, False]])
    keys = split_pixels(np.array([[0, 2], [1, 3]], np.float32), mask)
    assert keys.positive.argsort().tolist() == [1, 0]
    assert keys.negative.argsort().tolist() == [0, 1]


def test_maps_that_cannot_be_ranked_are_refused() -> None:
    mask = np.zeros((2, 3), np.bool_)
    scores = np.zeros((2, 3), np.float32)
    with pytest.raises(DataError, match=r"x has shape \(2, 3\) but its mask \(3, 2\)"):
        check_pixels(scores, mask.T, name="x")
    with pytest.raises(DataError, match=r"x has shape \(0, 3\)"):
        check_pixels(scores[:0], mask[:0], name="x")
    with pytest.raises(ValueError, match="float64"):
        check_pixels(scores.astype(np.float64), mask, name="x")
    with pytest.raises(ValueError, match="uint8"):
        check_pixels(scores, mask.astype(np.uint8), name="x")
    check_pixels(np.full((2, 3), -np.inf, np.float32), mask, name="x")
