"""Appearance: statistics by hand, distances that find changes, images of any size and grey."""

import numpy as np
import pytest
import torch
from conftest import Trained

from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.normal.appearance import (
    GRID,
    KINDS,
    NEAR,
    WIDE,
    PlaceAppearance,
    appearance,
    appearance_map,
    appearance_maps,
    fit_places,
)
from anomaly_cli.detector.vae_mapper import VAEMapper

FLOOR = 1 / 255


def normals(count: int = 30, size: int = 128) -> torch.Tensor:
    """Images of one scene, each a little lighter or darker, with noise of their own."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.linspace(0.3, 0.6, size).expand(3, size, size)
    light = 0.02 * torch.randn(count, 1, 1, 1, generator=generator)
    noise = 0.03 * torch.randn(count, 3, size, size, generator=generator)
    return (scene + light + noise).clamp(0, 1)


def statistics_of(images: torch.Tensor) -> PlaceAppearance:
    return fit_places(images.split(8), NEAR)


def test_statistics_of_a_striped_image_by_hand() -> None:
    """Columns of 0.2 and 0.6 in turn, red: every cell of 4 x 4 pixels holds two of each."""
    images = torch.zeros(1, 3, 256, 256)
    images[:, 0, :, 0::2], images[:, 0, :, 1::2] = 0.2, 0.6
    seen = appearance(images, WIDE)
    assert seen.shape == (1, len(WIDE) * len(KINDS), GRID, GRID)
    grey = 0.299 * 0.4
    expected = {
        "brightness": grey,
        "contrast": np.log(FLOOR + 0.299 * 0.2),
        "edges_across": np.log(FLOOR),  # a pixel's neighbours to the left and right are alike
        "edges_along": np.log(FLOOR),
        "red": 0.4 - grey,
        "blue": -grey,
    }
    for number in range(seen.shape[1]):
        inner = seen[0, number, 8:-8, 8:-8]
        value = expected[KINDS[number % len(KINDS)]]
        torch.testing.assert_close(inner, torch.full_like(inner, value), rtol=1e-3, atol=1e-4)


def test_the_border_of_the_image_darkens_nothing() -> None:
    seen = appearance(torch.full((1, 3, 64, 64), 0.5), WIDE)
    for reach in range(len(WIDE)):
        brightness = seen[0, reach * len(KINDS)]
        torch.testing.assert_close(brightness, torch.full_like(brightness, 0.5))


def test_edges_have_their_direction() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)  # grows from left to right
    seen = appearance(ramp, NEAR)[0, :, 32, 32]
    across, along = seen[KINDS.index("edges_across")], seen[KINDS.index("edges_along")]
    assert across.item() == pytest.approx(np.log(FLOOR + 1 / 63), rel=1e-3)
    assert along.item() == pytest.approx(np.log(FLOOR), rel=1e-3)
    turned = appearance(ramp.mT, NEAR)[0, :, 32, 32]
    torch.testing.assert_close(turned[[2, 3]], seen[[3, 2]])


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("brightness", lambda part: part + 0.15),
        ("contrast", lambda part: part.mean() + 3 * (part - part.mean())),
        ("red", lambda part: part + torch.tensor([0.15, -0.08, 0.0])[:, None, None]),
    ],
)
def test_a_changed_part_is_found_and_its_kind_is_named(kind: str, change: object) -> None:
    images = normals()
    statistics = statistics_of(images)
    changed = normals(31)[30:]
    changed[0, :, 40:72, 40:72] = change(changed[0, :, 40:72, 40:72])  # type: ignore[operator]
    found = appearance_map(changed, statistics)[0]
    assert found.shape == (128, 128)
    assert found[48:64, 48:64].mean() > 3 * found[90:, 90:].mean()
    kinds = appearance_maps(changed, statistics)[0, :, 24:32, 24:32].mean(dim=(1, 2))
    own = {"contrast": {"contrast", "edges_across", "edges_along"}}.get(kind, {kind})
    assert KINDS[int(kinds.argmax())] in own


def test_normal_images_have_a_distance_of_about_one() -> None:
    statistics = statistics_of(normals(60))
    fresh = appearance_maps(normals(80)[60:], statistics)
    assert (fresh >= 0).all()
    assert 0.7 < fresh.mean().item() < 1.6


@pytest.mark.parametrize("size", [32, 96, 160])
def test_any_size_and_constant_grey_images_are_finite(size: int) -> None:
    """No colour, no contrast and no difference between the images: noise alone is the scale."""
    images = torch.full((5, 3, size, size), 0.5)
    statistics = statistics_of(images)
    assert torch.equal(torch.isfinite(statistics.whitening).all(), torch.tensor(True))
    assert appearance_map(images, statistics).max() < 1e-3
    other = appearance_map(images + 0.1, statistics)
    assert other.shape == (5, size, size)
    assert torch.isfinite(other).all()
    assert 10 < other.min() <= other.max() < 1e5  # a tenth is a hundred times the noise


def test_a_trained_model_computes_the_map_from_its_file(trained: Trained) -> None:
    loaded = load_model(trained.model)
    mapper = VAEMapper(loaded.network, loaded.record.statistics, 64, torch.device("cpu"))
    images = torch.rand(2, 3, 64, 64)
    found = mapper(images, [MapSpec("appearance")])[MapSpec("appearance")]
    assert loaded.record.statistics.appearance is not None
    expected = appearance_map(images, loaded.record.statistics.appearance)
    torch.testing.assert_close(torch.from_numpy(found), expected)
    bare = loaded.record.statistics._replace(appearance=None)
    mapper = VAEMapper(loaded.network, bare, 64, torch.device("cpu"))
    with pytest.raises(ValueError, match="appearance"):
        mapper(images, [MapSpec("appearance")])
