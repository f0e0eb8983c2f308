"""Context: each place compared with its prediction from the rest of the image."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from conftest import Trained
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.mapper import AnomalyMapper
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.normal.appearance import KINDS, NOISE
from anomaly_cli.detector.normal.context import (
    GRIDS,
    LEAST_SHRINKAGE,
    NormalContext,
    context_maps,
    expect,
    fit_context,
    places,
    surroundings,
)
from models.attention import mean_map
from models.whitening import decorrelate

SIZE = 64


def normals(count: int, seed: int = 0) -> torch.Tensor:
    """Draw walls that are evenly rough; the roughness differs widely between images."""
    generator = torch.Generator().manual_seed(seed)
    roughness = 0.01 + 0.09 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.randn(count, 1, SIZE, SIZE, generator=generator)
    return (0.5 + roughness * noise).clamp(0, 1).expand(-1, 3, -1, -1)


def banded() -> torch.Tensor:
    """Draw walls whose upper quarter is rough and whose rest is smooth; both occur in `normals`."""
    smooth, rough = 0.015, 0.08
    noise = torch.randn(8, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(7))
    noise[:, :, : SIZE // 4] *= rough
    noise[:, :, SIZE // 4 :] *= smooth
    return (0.5 + noise).clamp(0, 1).expand(-1, 3, -1, -1)


@pytest.fixture(scope="module")
def normal() -> tuple[NormalContext, ...]:
    return fit_context(normals(60).split(16), normals(30, seed=1).split(16))


def test_a_place_that_is_normal_in_other_images_stands_out_in_its_own(
    normal: tuple[NormalContext, ...],
) -> None:
    fresh = context_maps(normals(30, seed=2), normal).mean(dim=1)
    found = context_maps(banded(), normal).mean(dim=1)
    assert found.shape == (8, max(GRIDS), max(GRIDS))
    assert (fresh >= 0).all()
    assert 0.7 < fresh.mean().item() < 1.4
    band = found[:, : max(GRIDS) // 4 - 1]
    assert band.mean() > 5 * fresh.mean()
    assert band.mean() > 1.5 * found[:, max(GRIDS) // 2 :].mean()


def test_the_highest_kind_names_the_difference(normal: tuple[NormalContext, ...]) -> None:
    """The band is rougher, and neither lighter nor coloured."""
    band = context_maps(banded(), normal)[:, :, : max(GRIDS) // 4 - 1].mean(dim=(0, 2, 3))
    rough = {"contrast", "edges_across", "edges_along"}
    assert KINDS[int(band.argmax())] in rough
    assert sum(band[KINDS.index(kind)] for kind in rough) > 0.8 * band.sum()
    torch.testing.assert_close(band[-2:], torch.zeros(2), atol=1e-2, rtol=0)


class Corner(NamedTuple):
    """The place in the first row and the last column of a grid of 4 x 4, of six statistics."""

    normal: NormalContext
    covariance: Tensor  # (96, 96), of the images that it was fitted to
    others: Tensor  # (10, 6, 4, 4), deviations of held-out images from the mean
    scaled: Tensor  # (10, 96), these deviations in terms of the scale of the statistics

    numbers = torch.arange(96).reshape(6, 4, 4)
    here = numbers[:, 0, 3]  # numbers of the corner among the 96
    near = numbers[:, 0:2, 2:4].flatten()


@pytest.fixture(scope="module")
def corner() -> Corner:
    """Fit images of large and small coloured blotches, so that places depend on each other."""
    generator = torch.Generator().manual_seed(3)
    noises = (torch.rand(410, 3, side, side, generator=generator) for side in (2, 4, 32))
    large, small, fine = (F.interpolate(noise, (32, 32), mode="bilinear") for noise in noises)
    images = 0.5 * large + 0.3 * small + 0.2 * fine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anomaly_cli.detector.normal.context.GRIDS", (4,))
        (normal,) = fit_context(images[:400].split(100), images[400:].split(10))
    fit, held_out = places(surroundings(images), 4).double().split([400, 10])
    deviation = fit - fit.mean(dim=0)
    scale = (deviation.square().mean(dim=(0, 2, 3)) + NOISE**2).sqrt()[:, None, None]
    scaled = (deviation / scale).flatten(1)
    own = scaled.T.cov(correction=0)
    assert ledoit_wolf_shrinkage(scaled.numpy(), assume_centered=True) < LEAST_SHRINKAGE
    spread = own.diagonal().mean()
    covariance = (1 - LEAST_SHRINKAGE) * own + LEAST_SHRINKAGE * spread * torch.eye(96)
    others = held_out - fit.mean(dim=0)
    return Corner(normal, covariance, others.float(), (others / scale).flatten(1))


def test_deviations_are_those_of_a_conditional_gaussian(corner: Corner) -> None:
    """The expected ones come from blocks of the covariance matrix, as in textbooks."""
    here, covariance = corner.here, corner.covariance
    far = torch.tensor([i for i in range(96) if i not in corner.near])
    slope = torch.linalg.solve(covariance[far][:, far], covariance[far][:, here]).T
    left = covariance[here][:, here] - slope @ covariance[far][:, here]
    unexpected = corner.scaled[:, here] - corner.scaled[:, far] @ slope.T
    misfit = corner.others - expect(corner.others, corner.normal)
    assert_distances(misfit, corner.normal.whitening, unexpected, left)


def test_a_place_is_first_clipped_by_its_own_gaussian(corner: Corner) -> None:
    own = corner.covariance[corner.here][:, corner.here]
    assert_distances(corner.others, corner.normal.alone, corner.scaled[:, corner.here], own)


def assert_distances(
    deviation: Tensor, whitening: Tensor, scaled: Tensor, covariance: Tensor
) -> None:
    """Check that squares in the corner are Mahalanobis distances, and 1 on average everywhere."""
    squares = decorrelate(deviation, whitening).square()
    distance = (scaled @ torch.linalg.inv(covariance) * scaled).sum(dim=1)
    ratio = squares[:, :, 0, 3].sum(dim=1) / distance
    torch.testing.assert_close(ratio, ratio[:1].expand(len(ratio)), rtol=1e-3, atol=0)
    assert squares.mean().item() == pytest.approx(1, rel=1e-3)


def test_neighbours_of_a_place_do_not_predict_it(normal: tuple[NormalContext, ...]) -> None:
    for own in normal:
        grid = own.mean.shape[-1]
        weights = own.expectation.reshape(len(KINDS), grid, grid, len(KINDS), grid, grid)
        inner = weights[:, 4, 4]  # from each place to the one at (4, 4)
        assert (inner[:, :, 3:6, 3:6] == 0).all()
        assert inner[:, :, 6:].abs().max() > 1e-3


def test_a_strong_defect_leaves_no_ghosts_elsewhere(normal: tuple[NormalContext, ...]) -> None:
    """A hole, which no wall has, must not change the map far from it."""
    walls = normals(30, seed=2)
    holed = walls.clone()
    holed[..., 24:40, 4:20] = 0.0
    far = slice(12, 16)  # places of the finest grid, a hole's width away at least
    clean = context_maps(walls, normal).mean(dim=1)
    found = context_maps(holed, normal).mean(dim=1)
    assert found[:, 6:10, 1:5].mean() > 20
    assert found[:, :, far].mean() < 1.5 * clean[:, :, far].mean()
    trusting = [
        own._replace(alone=own.alone / 1e3, whitening=own.whitening / 1e3) for own in normal
    ]
    ghosts = 1e6 * context_maps(holed, trusting).mean(dim=1)
    assert ghosts[:, :, far].mean() > 10 * clean[:, :, far].mean()


@pytest.mark.parametrize(
    ("is_clipped_first", "squares"),
    [
        # Place 0 predicts 10 for place 1, as it is: only place 0 is clipped, to 2.
        pytest.param(False, [100.0, 64.0, 100.0], id="from the prediction alone"),
        # Clipped to 2, place 0 predicts 2 for place 1. That may add 2, and predicts 4 for place 2.
        pytest.param(True, [100.0, 64.0, 16.0], id="from the mean first"),
    ],
)
def test_deviations_that_predict_others_are_clipped_twice(
    is_clipped_first: bool, squares: list[float]
) -> None:
    """Places 0 and 1 deviate by 10 in brightness; 0 predicts its deviation for 1, and 1 for 2."""
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    deviation = torch.zeros(6, 2, 2)
    deviation[0, 0] = 10.0
    mean = places(surroundings(images), 2)[0] - deviation
    expectation = torch.zeros(24, 24)
    expectation[1, 0] = expectation[2, 1] = 1.0
    # The mean square of six statistics is then the square of the only one that deviates.
    whitening = 6**0.5 * torch.eye(6).expand(2, 2, 6, 6)
    normal = NormalContext(mean, whitening * float(is_clipped_first), expectation, whitening)
    found = context_maps(images, [normal]).mean(dim=1).flatten()
    torch.testing.assert_close(found, torch.tensor([*squares, 0.0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [32, 96])
def test_any_size_and_equal_images_are_finite(size: int) -> None:
    images = torch.full((3, 3, size, size), 0.5)
    normal = fit_context([images], [images])
    assert context_maps(images, normal).max() < 1e-3
    assert torch.isfinite(context_maps(images + 0.1, normal)).all()


def test_grids_are_means_of_the_same_cells() -> None:
    cells = surroundings(torch.rand(2, 3, SIZE, SIZE))
    assert cells.shape == (2, len(KINDS), 64, 64)
    torch.testing.assert_close(places(places(cells, 16), 8), places(cells, 8))


def test_a_trained_model_computes_the_map_from_its_file(trained: Trained) -> None:
    loaded = load_model(trained.model)
    statistics = loaded.record.statistics
    spec = MapSpec("context")
    mapper = AnomalyMapper(loaded.vae, statistics, 64, torch.device("cpu"))
    images = torch.rand(2, 3, 64, 64)
    expected = mean_map(context_maps(images, statistics.context), (64, 64))
    torch.testing.assert_close(torch.from_numpy(mapper(images, [spec])[spec]), expected)
    bare = AnomalyMapper(loaded.vae, statistics._replace(context=()), 64, torch.device("cpu"))
    with pytest.raises(ValueError, match="context"):
        bare(images, [spec])
