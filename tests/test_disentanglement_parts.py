"""The parts of the disentanglement scores, by hand and against other ways to compute them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import mutual_info_score

from anomaly_cli.disentangle.metrics import mutual_information
from anomaly_cli.disentangle.metrics.information import (
    factor_entropies,
    modularity,
    mutual_information_gap,
)
from anomaly_cli.disentangle.metrics.prediction import concentration, draw_split
from anomaly_cli.disentangle.metrics.table import LatentTable
from anomaly_cli.disentangle.metrics.votes import cast_votes, factor_vae_score

SIZES = (3, 4, 5)
GRID = np.stack(np.unravel_index(np.arange(60).repeat(5), SIZES), axis=1).astype(np.int64)


def table_of(codes: NDArray[np.float64]) -> LatentTable:
    return LatentTable(codes=codes.astype(np.float32), factors=GRID, factor_sizes=SIZES)


def mixed_codes() -> NDArray[np.float64]:
    """Latents that follow the factors loosely."""
    generator = np.random.default_rng(0)
    mixing = np.eye(3) + 0.6 * generator.normal(size=(3, 3))
    return GRID @ mixing + generator.normal(0, 0.4, GRID.shape)


def test_every_vote_of_a_perfect_code_is_for_its_factor() -> None:
    votes = cast_votes(table_of(GRID[:, [2, 0, 1]]), 500, np.random.default_rng(0))
    np.testing.assert_array_equal(np.array([1, 2, 0])[votes.factors], votes.latents)
    assert set(np.bincount(votes.factors) // 100) == {1}  # equally likely


def test_factor_vae_score_is_that_of_drawing_every_image_anew() -> None:
    """Kim and Mnih's appendix, read line by line."""
    table, generator = table_of(mixed_codes()), np.random.default_rng(1)
    scale = table.codes.astype(np.float64).var(axis=0, ddof=1)

    def vote() -> tuple[int, int]:
        factor = int(generator.integers(3))
        value = generator.integers(SIZES[factor])
        factors = generator.integers(SIZES, size=(100, 3))
        factors[:, factor] = value
        rows = np.ravel_multi_index(tuple(factors.T), SIZES) * 5 + generator.integers(5, size=100)
        return factor, int((table.codes[rows].var(axis=0, ddof=1) / scale).argmin())

    counts = np.zeros((3, 3))
    for _ in range(2000):
        factor, latent = vote()
        counts[latent, factor] += 1
    guess = counts.argmax(axis=1)
    naive = np.mean([guess[latent] == factor for factor, latent in (vote() for _ in range(2000))])
    score = factor_vae_score(table, np.random.default_rng(2))
    assert 0.5 < score < 0.98
    assert score == pytest.approx(float(naive), abs=0.03)


def test_rows_are_drawn_evenly_among_those_with_the_value() -> None:
    group = table_of(mixed_codes()).groups[1]
    rows = group.draw(np.full((10, 600), 2), np.random.default_rng(0))
    assert rows.shape == (10, 600)
    drawn, counts = np.unique(rows, return_counts=True)
    np.testing.assert_array_equal(drawn, np.flatnonzero(GRID[:, 1] == 2))
    assert counts.min() > 40  # 80 each on average
    assert counts.max() < 120


def test_split_shares_no_image() -> None:
    split = draw_split(table_of(mixed_codes()), np.random.default_rng(0))
    assert (len(split.train), len(split.test)) == (200, 100)
    assert len(np.union1d(split.train, split.test)) == 300


def test_information_of_equal_and_of_independent_bits() -> None:
    factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    information = mutual_information(factors.astype(np.float32), factors, factor_sizes=(2, 2))
    np.testing.assert_allclose(information, math.log(2) * np.eye(2), atol=1e-12)


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_information_is_that_of_scikit_learn_on_the_same_bins(bins: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    codes = generator.normal(size=(50, 2)).astype(np.float32)
    factors = generator.integers(3, size=(50, 1))
    ours = mutual_information(codes, factors, factor_sizes=(3,), bins=bins)
    for latent in range(2):
        column = codes[:, latent].astype(np.float64)
        edges = np.linspace(column.min(), column.max(), bins + 1)[1:-1]
        binned = np.digitize(column, edges)
        assert ours[0, latent] == pytest.approx(mutual_info_score(factors[:, 0], binned), abs=1e-9)


def test_information_of_a_constant_latent_is_zero() -> None:
    codes = np.full((300, 1), 0.7, np.float32)
    assert (mutual_information(codes, GRID, factor_sizes=SIZES) == 0).all()


def test_forty_bins_separate_forty_values() -> None:
    values = np.arange(400)[:, None] % 40
    information = mutual_information(values.astype(np.float32), values, factor_sizes=(40,), bins=40)
    assert information[0, 0] == pytest.approx(math.log(40))


def test_entropies_by_hand() -> None:
    factors = np.array([[0, 0], [0, 1], [0, 2], [1, 0]])
    expected = [-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), 1.5 * math.log(2)]
    assert factor_entropies(factors, (2, 3)) == pytest.approx(expected)


def test_gap_by_hand() -> None:
    """(0.5 - 0.2) / 0.6 and (0.4 - 0.4) / 1, averaged."""
    information = np.array([[0.5, 0.1, 0.2], [0.4, 0.4, 0.0]])
    assert mutual_information_gap(information, np.array([0.6, 1.0])) == pytest.approx(0.25)
    assert mutual_information_gap(information[:1, :1], np.array([1.0])) == 0.5


def test_modularity_by_hand() -> None:
    """1 - (1 + 0) / (2 * 4), and 1 for the latent of one factor; the silent one does not count."""
    information = np.array([[2.0, 0, 0, 1], [1, 3, 0, 1], [0, 0, 0, 1]])
    is_active = np.array([True, True, True, False])
    assert modularity(information, is_active) == pytest.approx((7 / 8 + 1) / 2)
    assert math.isnan(modularity(information, np.array([False, False, True, False])))
    assert math.isnan(modularity(information[:1], is_active))


def test_concentration_by_hand() -> None:
    """1 for the row of one entry, of weight 3; 0 for that of equal ones, of weight 1."""
    importance = np.array([[3.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    assert concentration(importance) == pytest.approx(3 / 4)
    assert concentration(np.array([[1.0, 1, 2]])) == pytest.approx(
        1 - 1.5 * math.log(2) / math.log(3)
    )
    assert math.isnan(concentration(np.zeros((2, 2))))
    assert math.isnan(concentration(importance[:, :1]))
