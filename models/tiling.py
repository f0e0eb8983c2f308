"""Maps of large images, computed in overlapping patches."""

from collections.abc import Callable

import torch
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
    total = count = None
    for top in patch_starts(size, side):
        for left in patch_starts(size, side):
            place = (..., slice(top, top + side), slice(left, left + side))
            computed = compute(images[place])
            if total is None or count is None:
                total = computed.new_zeros(*computed.shape[:2], size, size)
                count = computed.new_zeros(size, size)
            total[place] += computed
            count[place] += 1
    assert total is not None  # noqa: S101 - there is at least one patch
    return total / count


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
