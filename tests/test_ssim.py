"""The structural similarity map: against scikit-image, its gradient, and values by hand."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from models.ssim import ssim_map


def reference(first: Tensor, second: Tensor) -> Tensor:
    """Compute the maps of scikit-image with the windows of Wang et al. 2004: (B, H, W)."""
    maps = [
        structural_similarity(
            x, y, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )[1].mean(axis=0)
        for x, y in zip(first.numpy(), second.numpy(), strict=True)
    ]  # fmt: skip
    return torch.from_numpy(np.stack(maps))


def draw_pair(kind: str, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Draw two batches (2, 3, H, W) in float64 that resemble each other."""
    noise = torch.Generator().manual_seed(3)
    draw = {"generator": noise, "dtype": torch.float64}
    base, spread = {"noise": (0.5, 1.0), "flat": (0.95, 0.005)}[kind]
    first = base + spread * (torch.rand(2, 3, height, width, **draw) - 0.5)
    return first, (first + 0.3 * spread * torch.randn(first.shape, **draw)).clamp(0, 1)


@pytest.mark.parametrize("kind", ["noise", "flat"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (11, 40)])
def test_the_whole_map_is_that_of_scikit_image(kind: str, height: int, width: int) -> None:
    """To the border, as both mirror the image there."""
    first, second = draw_pair(kind, height, width)
    torch.testing.assert_close(
        ssim_map(first, second), reference(first, second), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize(("kind", "tolerance"), [("noise", 1e-5), ("flat", 1e-3)])
def test_float32_is_close_except_where_images_are_flat(kind: str, tolerance: float) -> None:
    first, second = draw_pair(kind, 64, 64)
    single = ssim_map(first.float(), second.float())
    torch.testing.assert_close(single.double(), reference(first, second), rtol=0, atol=tolerance)


def test_gradient_is_that_of_finite_differences() -> None:
    first, second = (image[:1, :2].requires_grad_() for image in draw_pair("noise", 8, 7))
    assert torch.autograd.gradcheck(ssim_map, (first, second))


def test_flat_images_differ_in_luminance_alone() -> None:
    """Without variance, the map is (2 a b + 0.0001) / (a^2 + b^2 + 0.0001)."""
    black, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    torch.testing.assert_close(ssim_map(white, white), torch.ones(1, 16, 16))
    expected = torch.full((1, 16, 16), 0.0001 / 1.0001)
    torch.testing.assert_close(ssim_map(black, white), expected, rtol=0, atol=1e-6)


def test_inverted_contrast_is_dissimilar() -> None:
    """A board of single pixels has mean 1/2 and variance 1/4, with its negative -1/4."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    board = ((rows + columns) % 2).double().expand(1, 3, -1, -1)
    middle = ssim_map(board, 1 - board)[0, 16, 16].item()
    assert middle == pytest.approx((-0.5 + 0.0009) / (0.5 + 0.0009), abs=1e-5)
