"""Patches of large images: places, overlaps, random cuts."""

from itertools import pairwise

import pytest
import torch

from models.tiling import map_in_patches, map_shrunk, patch_starts, random_patches, shrink


@pytest.mark.parametrize(("size", "side"), [(256, 128), (320, 128), (300, 128), (128, 128)])
def test_patches_cover_the_edge_and_overlap_by_half(size: int, side: int) -> None:
    starts = patch_starts(size, side)
    assert starts[0] == 0
    assert starts[-1] + side == size
    assert all(0 < b - a <= side // 2 for a, b in pairwise(starts))


def test_patches_that_are_left_as_they_are_give_the_image_again() -> None:
    images = torch.rand(2, 3, 96, 96)
    torch.testing.assert_close(map_in_patches(images, 64, lambda patches: patches), images)


def test_overlapping_patches_are_averaged() -> None:
    """A network that gives the number of its call: four patches, the middle is in all of them."""
    calls = iter(range(4))
    images = torch.zeros(1, 1, 96, 96)
    computed = map_in_patches(images, 64, lambda patches: patches + next(calls))
    assert computed[0, 0, 0, 0] == 0
    assert computed[0, 0, 48, 48] == 1.5
    assert computed[0, 0, 95, 95] == 3


def test_random_patches_are_parts_of_their_images_and_repeatable() -> None:
    images = torch.arange(2 * 96 * 96, dtype=torch.float32).reshape(2, 1, 96, 96)
    first, again = (random_patches(images, 64, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    for image, patch in zip(images, first, strict=True):
        offset = int(patch[0, 0, 0] - image[0, 0, 0])
        top, left = divmod(offset, 96)
        assert torch.equal(image[:, top : top + 64, left : left + 64], patch)


def test_shrunk_images_are_averaged_and_their_maps_enlarged() -> None:
    images = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]).repeat_interleave(32, 2)
    images = images.repeat_interleave(32, 3)
    assert torch.equal(shrink(images, 2).flatten(), torch.tensor([0.0, 1.0, 2.0, 5.0]))
    assert shrink(images, 64) is images
    maps = map_shrunk(images, 32, lambda small: small + 1)
    assert maps.shape == images.shape
    torch.testing.assert_close(maps[0, 0, 0, 0], torch.tensor(1.0))
    torch.testing.assert_close(maps[0, 0, -1, -1], torch.tensor(6.0))


def test_whole_images_are_not_cut() -> None:
    images = torch.rand(2, 3, 64, 64)
    assert random_patches(images, 64, torch.Generator()) is images
