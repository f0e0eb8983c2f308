"""Sorted pixels of an image give the same counts as its map, at any threshold and in any pool."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomaly_cli.errors import DataError
from anomaly_cli.metrics.confusion import confusion
from anomaly_cli.metrics.detection import pixel_metrics
from anomaly_cli.metrics.images import pool_pixels, rank_pixels, sort_pixels
from anomaly_cli.metrics.keys import key_scores
from anomaly_cli.metrics.pixels import find_regions, split_pixels
from anomaly_cli.metrics.ranking import Ranking, rank_scores

Sample = tuple[NDArray[np.float32], NDArray[np.bool_]]


def draw(seed: int, *, share: float = 0.2) -> Sample:
    """Draw a map (9, 11) of few distinct values, zeros of both signs and infinities among them."""
    rng = np.random.default_rng(seed)
    values = np.array([-np.inf, -1.5, -0.0, 0.0, 0.25, 2.0, np.inf], np.float32)
    return rng.choice(values, (9, 11)), rng.random((9, 11)) < share


@given(
    seed=st.integers(0, 50),
    threshold=st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 0.1, 0.25, 2.0, 1e300, math.inf]),
)
def test_confusion_is_that_of_the_map(seed: int, threshold: float) -> None:
    anomaly_map, mask = draw(seed)
    with np.errstate(over="ignore"):
        expected = confusion(anomaly_map, mask, threshold=float(np.float32(threshold)))
    assert sort_pixels(anomaly_map, mask).confusion(threshold) == expected


def test_undefined_threshold_calls_nothing_and_misses_everything() -> None:
    anomaly_map, mask = draw(0)
    image = sort_pixels(anomaly_map, mask)
    counts = image.confusion(math.nan)
    assert (counts.true_positives, counts.false_positives) == (0, 0)
    assert image.missed_regions(math.nan) == image.region_peaks.size > 0


def test_region_is_missed_unless_one_of_its_pixels_exceeds_the_threshold() -> None:
    """Two regions with peaks 1 and 3; at 1 the first is missed, because 1 > 1 is false."""
    anomaly_map = np.array([[1, 0.5, 0, 0, 3, 0]], np.float32)
    mask = np.array([[True, True, False, False, True, True]])
    image = sort_pixels(anomaly_map, mask)
    assert [image.missed_regions(t) for t in (0.9, 1.0, 2.9, 3.0)] == [0, 1, 1, 2]


def rank_at_once(samples: list[Sample]) -> Ranking:
    """Rank the pixels of all images, without pools."""
    keys = [split_pixels(*sample) for sample in samples]
    regions = [find_regions(mask) for _map, mask in samples]
    positives = np.concatenate([each.positive for each in keys])
    areas = np.concatenate([each.areas[each.labels] for each in regions])
    order = np.lexsort((areas, positives))
    negatives = np.sort(np.concatenate([each.negative for each in keys]))
    ranking = rank_scores(positives[order], 1.0 / areas[order], [negatives])
    return replace(ranking, scores=key_scores(ranking.scores))


def test_pools_rank_as_all_pixels_at_once_do() -> None:
    """Bit for bit, in any grouping of the images."""
    samples = [draw(seed, share=0.1 * (seed % 3)) for seed in range(7)]
    pools = [sort_pixels(*sample).pixels for sample in samples]
    expected = pixel_metrics(rank_at_once(samples))
    for groups in ([pools], [pools[:3], pools[3:]], [[pool] for pool in pools]):
        assert pixel_metrics(rank_pixels([pool_pixels(group) for group in groups])) == expected


def test_nan_is_refused_by_name() -> None:
    anomaly_map, mask = draw(0)
    anomaly_map[2, 3] = np.nan
    with pytest.raises(DataError, match=r"x\.tiff has 1 NaN"):
        sort_pixels(anomaly_map, mask, name="x.tiff")
