"""Maps of large images, computed in overlapping patches."""

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_starts(size: int, side: int) -> list[int]:
    """List where patches begin along an edge: half a side apart, the last one at the end.

    Args:
        size: length of the edge, in pixels.
        side: side of the patches, in pixels, at most `size`.
    """
    return [*range(0, size - side, max(1, side // 2)), size - side]


def map_in_patches(images: Tensor, side: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute what a network gives for each patch, and average it where patches overlap.

    Args:
        images: shape (B, C, S, S).
        side: side of the patches, in pixels, at most S. If it is S, `images` is the only patch.
        compute: gives (B, K, side, side) for patches (B, C, side, side).

    Returns:
        Shape (B, K, S, S).
    """
    size = images.shape[-1]
    if side == size:
        return compute(images)
    edges = [slice(start, start + side) for start in patch_starts(size, side)]
    places = list(product(edges, edges))
    computed = [compute(images[..., rows, columns]) for rows, columns in places]
    total = computed[0].new_zeros(*computed[0].shape[:2], size, size)
    count = total.new_zeros(size, size)
    for (rows, columns), values in zip(places, computed, strict=True):
        total[..., rows, columns] += values
        count[rows, columns] += 1
    return total / count


def map_shrunk(images: Tensor, side: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute what a network gives for whole images of a smaller side, and enlarge it.

    Args:
        images: shape (B, C, S, S).
        side: side of the network's input, in pixels, at most S.
        compute: gives (B, K, side, side) for images (B, C, side, side).

    Returns:
        Shape (B, K, S, S).
    """
    computed = compute(shrink(images, side))
    size = images.shape[-1]
    if side == size:
        return computed
    return F.interpolate(computed, (size, size), mode="bilinear", align_corners=False)


def shrink(images: Tensor, side: int) -> Tensor:
    """Shrink images (B, C, S, S) to (B, C, side, side), averaging over areas."""
    return images if images.shape[-1] == side else F.interpolate(images, side, mode="area")


def random_patches(images: Tensor, side: int, noise: torch.Generator) -> Tensor:
    """Cut one patch out of each image, at a random place.

    Args:
        images: shape (B, C, S, S).
        side: side of the patches, in pixels, at most S. If it is S, `images` themselves are given.
        noise: draws the places; on the device of the images.

    Returns:
        Shape (B, C, side, side).
    """
    size = images.shape[-1]
    if side == size:
        return images
    places = torch.randint(size - side + 1, (len(images), 2), generator=noise, device=images.device)
    cut = [
        image[:, top : top + side, left : left + side]
        for image, (top, left) in zip(images, places.tolist(), strict=True)
    ]
    return torch.stack(cut)
