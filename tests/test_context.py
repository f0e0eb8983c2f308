"""Context: what the rest of an image lets expect of a place, by hand and on images."""

from typing import NamedTuple

import pytest
import torch
from conftest import Trained
from torch import Tensor

from anomaly_cli.checkpoint import load_model
from anomaly_cli.context_fit import LEAST_SHRINKAGE, _fit, fit_context
from anomaly_cli.drawing import MapMaker
from anomaly_cli.maps import MapSpec
from models.appearance import KINDS, mean_map
from models.context import (
    GRIDS,
    NormalContext,
    _squares,
    context_maps,
    expect,
    places,
    surroundings,
)
from models.whitening import decorrelate

SIZE = 64


def normals(count: int, seed: int = 0) -> torch.Tensor:
    """Walls that are each evenly rough: how rough, differs widely from image to image."""
    generator = torch.Generator().manual_seed(seed)
    roughness = 0.01 + 0.09 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.randn(count, 1, SIZE, SIZE, generator=generator)
    return (0.5 + roughness * noise).clamp(0, 1).expand(-1, 3, -1, -1)


def banded() -> torch.Tensor:
    """The upper quarter is as rough as some walls are, the rest as others are: neither is new."""
    smooth, rough = 0.015, 0.08
    noise = torch.randn(8, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(7))
    noise[:, :, : SIZE // 4] *= rough
    noise[:, :, SIZE // 4 :] *= smooth
    return (0.5 + noise).clamp(0, 1).expand(-1, 3, -1, -1)


@pytest.fixture(scope="module")
def normal() -> tuple[NormalContext, ...]:
    return fit_context(normals(60).split(16), normals(30, seed=1).split(16))


def test_a_place_that_would_be_normal_elsewhere_is_unexpected_beside_the_rest(
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


def test_kinds_tell_what_is_unexpected(normal: tuple[NormalContext, ...]) -> None:
    """The band is rougher, and neither lighter nor coloured."""
    band = context_maps(banded(), normal)[:, :, : max(GRIDS) // 4 - 1].mean(dim=(0, 2, 3))
    rough = {"contrast", "edges_across", "edges_along"}
    assert KINDS[int(band.argmax())] in rough
    assert sum(band[KINDS.index(kind)] for kind in rough) > 0.8 * band.sum()
    torch.testing.assert_close(band[-2:], torch.zeros(2), atol=1e-2, rtol=0)


class Corner(NamedTuple):
    """One place of a grid of 4 x 4, in the first row and the last column, of two statistics."""

    normal: NormalContext
    covariance: Tensor  # (32, 32), of what it was fitted to
    others: Tensor  # (10, 2, 4, 4), deviations of held-out images from the mean
    scaled: Tensor  # (10, 32), the same in terms of the scale of the statistics

    here = torch.tensor([3, 19])  # its numbers among the 32
    near = torch.arange(32).reshape(2, 4, 4)[:, 0:2, 2:4].flatten()


@pytest.fixture(scope="module")
def corner() -> Corner:
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(32, 32, generator=generator, dtype=torch.float64)
    values = torch.randn(410, 32, generator=generator, dtype=torch.float64) @ mixing
    fit, held_out = values.reshape(410, 2, 4, 4).split([400, 10])
    deviation = fit - fit.mean(dim=0)
    scale = deviation.square().mean(dim=(0, 2, 3)).sqrt()[:, None, None]
    own = (deviation / scale).flatten(1).T.cov(correction=0)
    spread = own.diagonal().mean()
    covariance = (1 - LEAST_SHRINKAGE) * own + LEAST_SHRINKAGE * spread * torch.eye(32)
    others = held_out - fit.mean(dim=0)
    return Corner(_fit(fit, held_out), covariance, others.float(), (others / scale).flatten(1))


def test_deviations_are_those_of_a_conditional_gaussian(corner: Corner) -> None:
    """Of one place, from the textbook's blocks of the covariance matrix."""
    here, covariance = corner.here, corner.covariance
    far = torch.tensor([i for i in range(32) if i not in corner.near])
    slope = torch.linalg.solve(covariance[far][:, far], covariance[far][:, here]).T
    left = covariance[here][:, here] - slope @ covariance[far][:, here]
    unexpected = corner.scaled[:, here] - corner.scaled[:, far] @ slope.T
    misfit = corner.others - expect(corner.others, corner.normal)
    assert_distances(misfit, corner.normal.whitening, unexpected, left)


def test_a_place_is_cut_first_by_its_own_gaussian(corner: Corner) -> None:
    own = corner.covariance[corner.here][:, corner.here]
    assert_distances(corner.others, corner.normal.alone, corner.scaled[:, corner.here], own)


def assert_distances(
    deviation: Tensor, whitening: Tensor, scaled: Tensor, covariance: Tensor
) -> None:
    """The squares in the corner are Mahalanobis distances, and 1 on average over all places."""
    squares = decorrelate(deviation, whitening).square()
    distance = (scaled @ torch.linalg.inv(covariance) * scaled).sum(dim=1)
    ratio = squares[:, :, 0, 3].sum(dim=1) / distance
    torch.testing.assert_close(ratio, ratio[:1].expand(len(ratio)), rtol=1e-3, atol=0)
    assert squares.mean().item() == pytest.approx(1, rel=1e-3)


def test_what_lies_around_a_place_tells_nothing_of_it(normal: tuple[NormalContext, ...]) -> None:
    for own in normal:
        grid = own.mean.shape[-1]
        weights = own.expectation.reshape(len(KINDS), grid, grid, len(KINDS), grid, grid)
        inner = weights[:, 4, 4]  # from each place to the one at (4, 4)
        assert (inner[:, :, 3:6, 3:6] == 0).all()
        assert inner[:, :, 6:].abs().max() > 1e-3


def test_a_strong_defect_leaves_no_ghosts_elsewhere(normal: tuple[NormalContext, ...]) -> None:
    """A hole, to normal walls what no wall is, must not change what is told of other places."""
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
    ("is_cut_first", "squares"),
    [
        # Place 1 fits place 0, and both are believed: only 0 is cut, at 2.
        pytest.param(False, [100.0, 64.0, 100.0], id="from what is expected"),
        # Cut at 2, place 0 lets expect 2 of 1, which is believed 2 more: 4 is expected of 2.
        pytest.param(True, [100.0, 64.0, 16.0], id="from the mean first"),
    ],
)
def test_what_a_place_tells_is_cut_twice(is_cut_first: bool, squares: list[float]) -> None:
    """Each of three places lets expect its own deviation of the next; two deviate by 10."""
    expectation = torch.zeros(4, 4)
    expectation[1, 0] = expectation[2, 1] = 1.0
    one = torch.ones(2, 2, 1, 1)
    alone = one * float(is_cut_first)
    normal = NormalContext(torch.zeros(1, 2, 2), alone, expectation, one)
    deviation = torch.tensor([10.0, 10.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
    found = _squares(deviation, normal).flatten()
    torch.testing.assert_close(found, torch.tensor([*squares, 0.0]))


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


def test_a_trained_model_draws_it_from_its_file(trained: Trained) -> None:
    loaded = load_model(trained.model)
    statistics = loaded.record.statistics
    spec = MapSpec("context")
    maker = MapMaker(loaded.vae, statistics, 64, torch.device("cpu"))
    images = torch.rand(2, 3, 64, 64)
    expected = mean_map(context_maps(images, statistics.context), (64, 64))
    torch.testing.assert_close(maker(images, [spec])[spec], expected)
    bare = MapMaker(loaded.vae, statistics._replace(context=()), 64, torch.device("cpu"))
    with pytest.raises(ValueError, match="context"):
        bare(images, [spec])
