"""Mixtures of Gaussians, compared with scipy and scikit-learn, as models of appearance."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import TRAIN_OPTIONS, run_cli
from PIL import Image
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.normal import mixture as mixtures
from anomaly_cli.detector.normal.appearance import (
    KINDS,
    NEAR,
    WAYS,
    PlaceAppearance,
    appearance_map,
    appearance_maps,
    count_statistics,
    fit_anywhere,
)
from anomaly_cli.detector.normal.mixture import (
    Mixture,
    fit_mixture,
    misfit_terms,
    misfits,
)
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.images import NormalImages
from anomaly_cli.training.scoring import DefectScore
from anomaly_cli.training.selection import choose_appearance, describe_appearance
from models.config import VAEConfig

SIZE = 64


def two_kinds(count: int = 6000) -> torch.Tensor:
    """Draw three quarters about (0, 0), correlated, and a narrow quarter about (5, 1)."""
    generator = np.random.default_rng(0)
    wide = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 3 * count // 4)
    narrow = generator.multivariate_normal([5, 1], [[0.1, 0], [0, 0.2]], count // 4)
    values = np.concatenate([wide, narrow])
    return torch.from_numpy(generator.permutation(values)).float()


def some_mixture() -> Mixture:
    generator = torch.Generator().manual_seed(0)
    whitening = torch.randn(4, 3, 3, generator=generator)
    rarity = torch.tensor([0.0, 3.0, 1.0, 2.0])
    return Mixture(torch.randn(4, 3, generator=generator), whitening, rarity)


def test_misfit_is_the_distance_from_each_mean_and_its_rarity() -> None:
    mixture = some_mixture()
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    deviation = values[:, None] - mixture.mean
    decorrelated = torch.einsum("kij,nkj->nki", mixture.whitening, deviation)
    expected = decorrelated.square().sum(dim=2) + mixture.rarity
    torch.testing.assert_close(misfits(values, mixture), expected, rtol=1e-4, atol=1e-4)
    terms = misfit_terms(values, mixture)
    assert terms.shape == (50, 3)
    assert (terms >= 0).all()
    torch.testing.assert_close(terms.sum(1), expected.min(1).values, rtol=1e-4, atol=1e-4)


def test_misfit_is_twice_the_negative_log_density_of_scipy() -> None:
    values = two_kinds()
    mixture = fit_mixture(values, noise=0.0)
    weight_and_width = -mixture.rarity / 2  # log(weight |T|), up to a constant
    densities = []
    for mean, whitening in zip(mixture.mean, mixture.whitening, strict=True):
        covariance = torch.linalg.inv(whitening.T @ whitening)
        normal = multivariate_normal(mean.numpy(), covariance.double().numpy())
        densities.append(normal.logpdf(values[:100].numpy()))
    width = torch.linalg.slogdet(mixture.whitening).logabsdet
    log_weights = (weight_and_width - width).double()
    log_weights -= log_weights.logsumexp(0)
    expected = -2 * (np.stack(densities, 1) + log_weights.numpy())
    found = misfits(values[:100], mixture).numpy()
    differences = found - expected
    np.testing.assert_allclose(differences, differences[0, 0], atol=2e-2)


def test_fit_is_as_likely_as_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixtures, "COMPONENTS", 2)
    values = two_kinds()
    mixture = fit_mixture(values, noise=0.0)
    order = mixture.mean[:, 0].argsort()
    torch.testing.assert_close(
        mixture.mean[order], torch.tensor([[0.0, 0.0], [5.0, 1.0]]), atol=0.06, rtol=0
    )
    covariance = torch.linalg.inv(mixture.whitening.mT @ mixture.whitening)[order]
    expected = torch.tensor([[[1, 0.6], [0.6, 1]], [[0.1, 0], [0, 0.2]]])
    torch.testing.assert_close(covariance, expected, atol=0.08, rtol=0)
    theirs = GaussianMixture(2, random_state=0).fit(values.numpy())
    log_weights = -mixture.rarity / 2 - torch.linalg.slogdet(mixture.whitening).logabsdet
    # Weights sum to one, which is what rarity leaves out.
    ours = (-misfits(values, mixture) / 2).logsumexp(1).mean() - log_weights.logsumexp(0)
    ours = ours - math.log(2 * math.pi)
    assert ours.item() == pytest.approx(theirs.score(values.numpy()), abs=0.02)


def test_values_far_from_zero_fit_as_those_about_it() -> None:
    """A bright, even product: squares of 1000 standard deviations have no digit left for one."""
    values = two_kinds() / 64  # so that nothing is lost when they are shifted
    values = (values * 2**12).round() / 2**12
    near, far = fit_mixture(values, noise=0.0), fit_mixture(values + 64, noise=0.0)
    torch.testing.assert_close(far.mean - 64, near.mean, atol=1e-3, rtol=0)
    shifted = misfit_terms(values + 64, far)
    torch.testing.assert_close(shifted, misfit_terms(values, near), atol=0.05, rtol=0.05)


def test_few_values_have_few_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixtures, "COMPONENTS", 16)
    assert len(fit_mixture(two_kinds(1200), noise=0.0).mean) == 2
    assert len(fit_mixture(two_kinds(40), noise=0.0).mean) == 1
    assert len(fit_mixture(two_kinds(10_000), noise=0.0).mean) == 16


def test_values_that_never_move_are_finite_and_noise_is_their_scale() -> None:
    mixture = fit_mixture(torch.full((2000, 3), 0.5), noise=1e-3)
    assert all(torch.isfinite(part).all() for part in mixture)
    still, moved = torch.full((1, 3), 0.5), torch.full((1, 3), 0.6)
    assert misfit_terms(still, mixture).sum() < misfit_terms(moved, mixture).sum() - 1000


def lay_disc(generator: np.random.Generator, centre: tuple[int, int]) -> np.ndarray:
    """Draw a bright disc with a dark rim on grey ground."""
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    cv2.circle(image, centre, 12, (200, 190, 180), -1)
    cv2.circle(image, centre, 12, (40, 40, 40), 2)
    noise = generator.normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def write_discs(folder: Path, *, lie_anywhere: bool) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(30):
        place = tuple(generator.integers(18, 46, 2).tolist()) if lie_anywhere else (32, 32)
        Image.fromarray(lay_disc(generator, place)).save(folder / f"{number:03}.png")


def config(data: Path, guidance: str = "synthetic") -> TrainConfig:
    return TrainConfig(
        data=data,
        category="disc",
        model=VAEConfig(image_size=SIZE),
        guidance=guidance,  # type: ignore[arg-type]
        held_out=0.3,
    )


@pytest.mark.parametrize(("lie_anywhere", "way"), [(False, "same_place"), (True, "any_place")])
def test_appearance_is_modelled_by_whether_parts_lie_anywhere(
    tmp_path: Path, lie_anywhere: bool, way: str
) -> None:
    write_discs(tmp_path / "disc" / "train" / "good", lie_anywhere=lie_anywhere)
    choice = choose_appearance(open_training_set(config(tmp_path)), batch_size=8)
    assert list(choice.scores) == list(WAYS)
    assert choice.way.removesuffix("_wide") == way
    assert isinstance(choice.normal, Mixture if lie_anywhere else PlaceAppearance)
    scores = {name: row._asdict() for name, row in choice.scores.items()}
    text = describe_appearance(choice.way, scores)
    assert text.startswith(f"{WAYS[choice.way].words} of normal images (mean AUROC on synthetic")


@pytest.mark.parametrize(
    ("means", "way"),
    [
        ((0.900, 0.908, 0.909, 0.9099), "same_place"),
        ((0.900, 0.920, 0.910, 0.929), "any_place"),
        ((0.900, 0.800, 0.920, 0.929), "same_place_wide"),
        ((0.900, 0.800, 0.910, 0.929), "any_place_wide"),
    ],
)
def test_narrow_halos_are_preferred_where_the_difference_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, means: tuple[float, ...], way: str
) -> None:
    write_discs(tmp_path / "disc" / "train" / "good", lie_anywhere=False)
    values = iter(means)
    monkeypatch.setattr(
        "anomaly_cli.training.selection.score_maps", lambda *_maps: DefectScore(*[next(values)] * 2)
    )
    choice = choose_appearance(open_training_set(config(tmp_path)), batch_size=8)
    assert choice.way == way
    sizes = 3 if way.endswith("wide") else 2
    assert count_statistics(choice.normal) == sizes * len(KINDS)


def test_without_synthetic_defects_each_place_is_compared_with_itself(tmp_path: Path) -> None:
    write_discs(tmp_path / "disc" / "train" / "good", lie_anywhere=True)
    images = open_training_set(config(tmp_path))._replace(validation=[])
    choice = choose_appearance(images, batch_size=8)
    assert isinstance(choice.normal, PlaceAppearance)
    assert choice.scores == {}


@pytest.mark.usefixtures("thin_network")
def test_model_of_parts_that_lie_anywhere_keeps_its_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From training to the explanation of the highest pixel."""
    anywhere = {name: way for name, way in WAYS.items() if way.is_anywhere}
    monkeypatch.setattr("anomaly_cli.training.selection.WAYS", anywhere)
    write_discs(tmp_path / "disc" / "train" / "good", lie_anywhere=True)
    outcome = run_cli(
        "train", "--data", tmp_path, "--category", "disc", "--output", tmp_path / "runs",
        "--epochs", 1, "--neck", "fpn", *TRAIN_OPTIONS,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    record = load_model(tmp_path / "runs" / "disc").record
    assert isinstance(record.statistics.appearance, Mixture)
    words = anywhere[record.training["appearance"]].words
    assert f"disc: appearance is compared with {words} of normal images" in outcome.stderr
    outcome = run_cli(
        "localize", tmp_path / "runs" / "disc", tmp_path / "disc" / "train" / "good" / "000.png",
        "--map", "fused", "--latents", "all", "--output", tmp_path / "out", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    (row,) = json.loads(outcome.stdout)
    shares = row["peak"]["appearance_shares"]
    assert list(shares) == list(KINDS)
    assert sum(shares.values()) == pytest.approx(1)


def test_part_in_a_new_place_is_normal_and_a_stain_on_it_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    write_discs(folder, lie_anywhere=True)
    images = NormalImages(sorted(folder.iterdir()), SIZE)
    normal = fit_anywhere(images.batches(8), NEAR, count=len(images))
    generator = np.random.default_rng(9)
    good = lay_disc(generator, (20, 44))
    stained = good.copy()
    stained[40:48, 16:24] = (90, 160, 90)
    batch = torch.from_numpy(np.stack([good, stained])).permute(0, 3, 1, 2) / 255
    of_good, of_stained = appearance_map(batch, normal)
    assert of_stained[42:46, 18:22].min() > 3 * of_good.max()
    kinds = appearance_maps(batch, normal)
    assert kinds.shape == (2, len(KINDS), SIZE, SIZE)
    torch.testing.assert_close(kinds.mean(dim=1)[0], of_good, rtol=1e-4, atol=1e-4)


def test_the_same_images_give_the_same_mixture_in_any_batches(tmp_path: Path) -> None:
    write_discs(tmp_path / "good", lie_anywhere=True)
    images = NormalImages(sorted((tmp_path / "good").iterdir()), SIZE)
    one, two = (fit_anywhere(images.batches(size), NEAR, count=len(images)) for size in (8, 30))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)
