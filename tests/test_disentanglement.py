"""Disentanglement scores of codes whose scores are known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from anomaly_cli.disentangle.dsprites import FACTOR_SIZES, IMAGE_COUNT, factors_of
from anomaly_cli.disentangle.metrics import (
    DisentanglementScores,
    active_latents,
    disentanglement_scores,
    mutual_information,
)
from anomaly_cli.disentangle.metrics.table import LatentTable
from anomaly_cli.disentangle.metrics.votes import factor_vae_score
from anomaly_cli.errors import DataError

SIZES = (3, 4, 5, 6, 7)  # a world of 2,520 images
GRID = np.stack(np.unravel_index(np.arange(2520), SIZES), axis=1).astype(np.int64)
UNIT = ((GRID - GRID.mean(axis=0)) / GRID.std(axis=0)).astype(np.float32)  # one latent a factor
ALL = [
    name for name in DisentanglementScores._fields if name not in {"active_latents", "modularity"}
]

Codes = NDArray[np.float32]


def score_anew(codes: Codes, seed: int = 0) -> DisentanglementScores:
    return disentanglement_scores(codes, GRID, factor_sizes=SIZES, seed=seed)


_SCORED: dict[tuple[tuple[int, ...], bytes], DisentanglementScores] = {}


def score(codes: Codes) -> DisentanglementScores:
    """Score codes, each once; several tests compare others with the same ones."""
    key = (codes.shape, codes.tobytes())
    if key not in _SCORED:
        _SCORED[key] = score_anew(codes)
    return _SCORED[key]


def noise(latents: int, scale: float = 1.0) -> Codes:
    return np.random.default_rng(7).normal(0, scale, (len(GRID), latents)).astype(np.float32)


def beside(*parts: Codes) -> Codes:
    return np.concatenate(parts, axis=1).astype(np.float32)


def rotated(codes: Codes) -> Codes:
    """All latents mixed, by a random rotation."""
    matrix = np.random.default_rng(3).normal(size=(codes.shape[1],) * 2)
    return (codes @ np.linalg.qr(matrix)[0]).astype(np.float32)


@pytest.fixture(scope="module")
def perfect() -> DisentanglementScores:
    """Five latents that are the five factors, and three that are collapsed."""
    return score(beside(UNIT, noise(3, 1e-3)))


def test_perfect_code_scores_one(perfect: DisentanglementScores) -> None:
    assert perfect.factor_vae == 1.0
    assert perfect.factor_vae_kim800 == 1.0
    assert perfect.beta_vae == 1.0
    assert perfect.mig == pytest.approx(1.0, abs=0.03)  # less the information of noise
    assert perfect.dci_disentanglement > 0.99
    assert perfect.dci_completeness > 0.99
    assert perfect.dci_informativeness > 0.99
    assert perfect.modularity == 1.0
    assert perfect.active_latents == 5


def test_linear_machines_on_a_line_leave_sap_far_below_one(perfect: DisentanglementScores) -> None:
    """One threshold can only cut off the two ends of 7 values on a line."""
    assert 0.2 < perfect.sap < 0.7


def test_code_of_one_factor_of_two_values_has_the_sap_of_its_chance() -> None:
    """Two factors of two values: the right latent is right always, the other half of the time."""
    factors = np.stack(np.unravel_index(np.arange(4000) % 4, (2, 2)), axis=1).astype(np.int64)
    scores = disentanglement_scores(factors.astype(np.float32), factors, factor_sizes=(2, 2))
    assert scores.sap == pytest.approx(0.5, abs=0.03)


def test_random_code_is_near_chance() -> None:
    scores = score(noise(8))
    assert scores.factor_vae == pytest.approx(1 / 5, abs=0.03)
    assert scores.factor_vae_kim800 == pytest.approx(0.24, abs=0.05)  # the votes it was fitted to
    assert scores.beta_vae == pytest.approx(1 / 5, abs=0.05)
    assert scores.mig < 0.02
    assert scores.sap < 0.03
    assert scores.dci_disentanglement < 0.1
    assert scores.dci_completeness < 0.1
    chance = np.mean([1 / size for size in SIZES])
    assert scores.dci_informativeness == pytest.approx(chance, abs=0.03)
    assert scores.active_latents == 8


@pytest.mark.parametrize("latents", [0, 3])
def test_rotated_code_scores_lower_everywhere(perfect: DisentanglementScores, latents: int) -> None:
    scores = score(rotated(beside(UNIT, noise(latents))))
    for name in (*ALL, "modularity"):
        assert getattr(scores, name) < getattr(perfect, name) - 0.01, name


def test_collapsed_latents_are_pruned(perfect: DisentanglementScores) -> None:
    """A latent that determines a factor, in a hundredth of the prior's width, has no vote."""
    whole = score(UNIT)
    assert perfect.factor_vae == whole.factor_vae
    assert perfect.beta_vae == whole.beta_vae
    without_last = score(beside(UNIT[:, :4], 0.01 * UNIT[:, 4:]))
    assert without_last.active_latents == 4
    assert without_last.factor_vae == pytest.approx(0.8, abs=0.02)  # 4 of 5 factors have a latent
    assert without_last.sap < whole.sap


def test_constant_latents_change_nothing(perfect: DisentanglementScores) -> None:
    scores = score(beside(UNIT, np.full((len(GRID), 2), 0.3)))
    assert scores.factor_vae == 1.0
    assert scores.mig == pytest.approx(1.0)
    assert scores.sap == pytest.approx(perfect.sap)
    assert not any(math.isnan(value) for value in scores)


@pytest.mark.parametrize("value", [0.0, 0.4])
def test_model_whose_latents_all_collapsed(value: float) -> None:
    scores = score(np.full((len(GRID), 4), value, np.float32))
    assert scores.factor_vae == scores.factor_vae_kim800 == 0.0
    assert scores.beta_vae == pytest.approx(0.2, abs=0.02)  # a guess
    assert scores.mig == scores.sap == 0.0
    assert scores.active_latents == 0
    undefined = (scores.dci_disentanglement, scores.dci_completeness, scores.modularity)
    assert all(math.isnan(score) for score in undefined)


def test_active_is_a_standard_deviation_of_at_least_a_twentieth() -> None:
    signs = np.array([[-1.0], [1.0]] * 50, np.float32) * math.sqrt(99 / 100)  # ddof 1
    codes = signs * np.array([0.0499, 0.0501, 1.0], np.float32)
    assert active_latents(codes).tolist() == [False, True, True]
    assert active_latents(codes, minimum_std=0.5).tolist() == [False, False, True]


def test_second_latent_for_a_factor_costs_completeness_and_not_disentanglement(
    perfect: DisentanglementScores,
) -> None:
    scores = score(beside(UNIT, -UNIT[:, 4:]))
    assert scores.factor_vae == 1.0
    assert scores.modularity == 1.0
    assert scores.mig == pytest.approx(4 / 5)  # no lead for the last factor
    assert scores.sap < perfect.sap - 0.02
    assert scores.dci_disentanglement > 0.99
    assert scores.dci_completeness < 0.95


def test_latent_for_two_factors_costs_disentanglement() -> None:
    scores = score(beside(UNIT[:, :3], UNIT[:, 3:4] + UNIT[:, 4:] * 0.9))
    assert scores.factor_vae < 0.9
    assert scores.modularity < 0.96
    assert scores.dci_disentanglement < 0.95


@pytest.mark.parametrize("codes", [beside(UNIT, noise(3)), rotated(UNIT)])
def test_unit_of_a_latent_does_not_matter(codes: Codes) -> None:
    """Powers of two and -1 change no digit but the exponent and the sign."""
    units = np.array([4, -0.5, 2, 8, -1, 2, 1, 0.25], np.float32)[: codes.shape[1]]
    scores, scaled = score(codes), score(codes * units)
    for name in DisentanglementScores._fields:
        is_close = name.startswith("dci") or name in {"mig", "modularity"}  # cuts move by a float
        expected = getattr(scores, name)
        assert getattr(scaled, name) == pytest.approx(expected, abs=0.01 if is_close else 2e-3), (
            name
        )


def test_shift_of_a_latent_does_not_matter() -> None:
    codes = rotated(UNIT)
    scores, shifted = score(codes), score(codes + np.float32(100))
    for name in DisentanglementScores._fields:
        assert getattr(shifted, name) == pytest.approx(getattr(scores, name), abs=0.02), name


def test_order_of_latents_does_not_matter() -> None:
    codes = rotated(beside(UNIT, noise(3)))
    scores, permuted = score(codes), score(codes[:, [6, 2, 0, 7, 5, 1, 4, 3]])
    assert permuted.factor_vae == scores.factor_vae
    assert permuted.factor_vae_kim800 == scores.factor_vae_kim800
    assert permuted.sap == scores.sap
    for name in DisentanglementScores._fields:
        assert getattr(permuted, name) == pytest.approx(getattr(scores, name), abs=0.02), name


def test_seed_decides_everything() -> None:
    codes = rotated(beside(UNIT, noise(3)))
    before = codes.copy()
    first, again, other = (score_anew(codes, seed=seed) for seed in (4, 4, 5))
    assert first == again
    assert first.factor_vae != other.factor_vae
    assert abs(first.factor_vae - other.factor_vae) < 0.03
    assert (first.mig, first.modularity) == (other.mig, other.modularity)  # nothing is drawn
    np.testing.assert_array_equal(codes, before)


def test_perfect_code_of_all_of_dsprites() -> None:
    """And the bound that 20 bins set to its MIG: 40 values fall into 20 bins by pairs."""
    factors = factors_of(np.arange(IMAGE_COUNT))
    codes = (factors / np.array(FACTOR_SIZES)).astype(np.float32)
    table = LatentTable(codes=codes, factors=factors, factor_sizes=FACTOR_SIZES)
    assert factor_vae_score(table, np.random.default_rng(0)) == 1.0
    information = mutual_information(codes, factors)
    assert information.shape == (5, 5)
    assert information[:2].diagonal() == pytest.approx([math.log(3), math.log(6)])
    assert information[2, 2] == pytest.approx(math.log(20))
    assert information[2, 3] == pytest.approx(0, abs=1e-9)


def test_coarser_grid_is_enough() -> None:
    """Every second value of the last factor, numbered anew."""
    factors = GRID[GRID[:, 4] % 2 == 0] // np.array([1, 1, 1, 1, 2])
    codes = factors.astype(np.float32)
    scores = disentanglement_scores(codes, factors, factor_sizes=(3, 4, 5, 6, 4))
    assert scores.factor_vae == scores.factor_vae_kim800 == scores.beta_vae == 1.0
    assert scores.mig == pytest.approx(1.0)


def test_random_half_of_the_images_is_enough() -> None:
    rows = np.random.default_rng(1).permutation(len(GRID))[:1260]
    scores = disentanglement_scores(UNIT[rows], GRID[rows], factor_sizes=SIZES)
    assert scores.factor_vae == scores.beta_vae == 1.0
    assert scores.mig == pytest.approx(
        1.0, abs=0.03
    )  # of fewer images, factors are not independent
    assert scores.dci_disentanglement > 0.98


def test_factor_of_one_value_is_left_out(perfect: DisentanglementScores) -> None:
    factors = np.insert(GRID, 0, 0, axis=1)
    codes = beside(UNIT, noise(3, 1e-3))
    assert disentanglement_scores(codes, factors, factor_sizes=(1, *SIZES)) == perfect


def test_factor_value_that_no_two_images_show_is_named() -> None:
    rows = GRID[:, 3] != 2
    with pytest.raises(DataError, match="fewer than two images have value 2 of factor 3; encode"):
        disentanglement_scores(UNIT[rows], GRID[rows], factor_sizes=SIZES)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_codes_of_a_diverged_model_are_refused(value: float) -> None:
    codes = UNIT.copy()
    codes[9, 1] = value
    with pytest.raises(DataError, match="diverged"):
        score(codes)


@pytest.mark.parametrize(
    ("codes", "factors", "sizes", "reason"),
    [
        (UNIT[:, 0], GRID, SIZES, "shape"),
        (UNIT[:, :0], GRID, SIZES, "shape"),
        (UNIT[1:], GRID, SIZES, "5 factors for each of 2519"),
        (UNIT, GRID[:, 1:], SIZES, "5 factors"),
        (UNIT, GRID, (3, 4, 5, 6, 6), "below their sizes"),
        (UNIT, GRID - 1, SIZES, "below their sizes"),
        (UNIT, GRID[:, :1] * 0, (1,), "more than one value"),
    ],
)
def test_shapes_that_do_not_agree_are_refused(
    codes: Codes, factors: NDArray[np.int64], sizes: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        disentanglement_scores(codes, factors, factor_sizes=sizes)
