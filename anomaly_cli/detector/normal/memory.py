"""Memory: distance of each place from the nearest normal patch, in features of ImageNet.

Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection" (PatchCore). Patches are
features of a frozen encoder at strides 8 and 16, averaged with their neighbours. A greedy k-centre
coreset keeps those that lie furthest apart. A place far from every normal patch is anomalous,
wherever parts lie, and the nearest patch shows what it should have looked like.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from anomaly_cli.detector.together import in_shares
from models.efficientnet import EfficientNetLite0
from models.patches import join_stages

STAGES = ("stride8", "stride16")
PATCHES = 4000  # in a memory at most: 2.4 MB of 152 channels
_CANDIDATES = 100_000  # patches of all images that a coreset is chosen from
_PROJECTED = 48  # dimensions of the random projection in which it is chosen
# Places of each image at once. Of a batch of 16, their distances stay in the processor's cache.
_CHUNK = 64


class PatchMemory(NamedTuple):
    """Normal patches, and the network that computes such patches of an image."""

    encoder: EfficientNetLite0
    patches: Tensor  # (P, C) float32
    image: Tensor  # (P,) int64, number of the training image that a patch is from
    row: Tensor  # (P,) int64, place of the patch in that image, in units of 8 pixels
    column: Tensor  # (P,) int64
    scale: Tensor  # (), mean distance of held-out normal places

    def to(self, device: torch.device) -> "PatchMemory":
        """Copy to a device; the network is moved."""
        tensors = (part.to(device) for part in self[1:])
        return PatchMemory(self.encoder.to(device), *tensors)


def patch_features(stages: Mapping[str, Tensor]) -> Tensor:
    """Compute the patches of the `STAGES` (B, C, h, w) of images (B, 3, H, W): (B, C, H/8, W/8)."""
    fine, coarse = STAGES
    return join_stages(stages[fine], stages[coarse])


def patch_distances(
    features: Tensor, memory: PatchMemory, *, own: Sequence[int] | None = None
) -> Tensor:
    """Compute the distance of each place from the nearest normal patch.

    Args:
        features: (B, C, h, w), from `patch_features`.
        memory: the normal patches.
        own: numbers of the images, where they are images of the memory; their own patches are left
            out.

    Returns:
        (B, h, w), 1 on average in normal images.
    """
    middle = memory.patches.mean(dim=0)  # float32 is too coarse for squares of large numbers
    patches = memory.patches - middle
    height, width = features.shape[2:]
    places = features.permute(0, 2, 3, 1).flatten(1, 2) - middle  # (B, h * w, C)
    if own is None:
        squares = _least_squares(places, patches)
    else:
        others = [patches[memory.image != number] for number in own]
        squares = torch.cat(
            [_least_squares(p[None], kept) for p, kept in zip(places, others, strict=True)]
        )
    return squares.sqrt().reshape(-1, height, width) / memory.scale


def _least_squares(places: Tensor, patches: Tensor) -> Tensor:
    """Compute the squared distance (B, N) of places (B, N, C) from the nearest of patches (P, C).

    |x - p|^2 is multiplied out, which makes it one product of matrices.
    """
    lengths, columns = patches.square().sum(dim=1), patches.T.contiguous()
    least = [
        torch.addmm(lengths, part.flatten(0, 1), columns, alpha=-2).amin(dim=1)
        for part in torch.split(places, _CHUNK, dim=1)
    ]
    # Of each chunk, the places of all images.
    parts = [part.reshape(places.shape[0], -1) for part in least]
    return (torch.cat(parts, dim=1) + places.square().sum(dim=2)).clamp_min(0.0)


def nearest_patch(feature: Tensor, memory: PatchMemory) -> int:
    """Find the number of the normal patch that is nearest to one place (C,)."""
    return int((memory.patches - feature).square().sum(dim=1).argmin())


def fit_memory(
    encoder: EfficientNetLite0,
    fit: Iterable[Tensor],
    held_out: Iterable[Tensor],
    *,
    count: int,
    seed: int,
    patches: int = PATCHES,
    is_few: bool = False,
) -> PatchMemory:
    """Choose the patches of a memory from normal images, and scale distances by held-out ones.

    Args:
        encoder: frozen.
        fit: batches of the normal images that the model is fitted to, (B, 3, S, S) in [0, 1].
        held_out: batches of other normal images; their places have a mean distance of 1.
        count: number of images in `fit`.
        seed: of the random draws.
        patches: the most that are kept.
        is_few: whether `held_out` are the same images; their own patches are then left out.
    """
    generator = torch.Generator().manual_seed(seed)
    values, numbers, (height, width) = _draw_places(encoder, fit, count, generator)
    chosen = _coreset(values, patches, generator)
    places = numbers[chosen]
    memory = PatchMemory(
        encoder,
        values[chosen].contiguous(),
        places // (height * width),
        places // width % height,
        places % width,
        torch.ones(()),
    )
    distances, start = [], 0
    for features in in_shares(lambda batch: patch_features(encoder(batch)).cpu(), held_out):
        own = range(start, start + len(features)) if is_few else None
        distances.append(patch_distances(features, memory, own=own))
        start += len(features)
    return memory._replace(scale=torch.cat(distances).double().mean().float())


def _draw_places(
    encoder: EfficientNetLite0, batches: Iterable[Tensor], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Draw places of every image: patches (N, C), their numbers (N,), and the grid of an image.

    Places are numbered through all images, row by row.
    """
    values, numbers, start = [], [], 0
    grid = (0, 0)
    for features in in_shares(lambda batch: patch_features(encoder(batch)).cpu(), batches):
        grid = (features.shape[2], features.shape[3])
        of_image = features.permute(0, 2, 3, 1).flatten(1, 2)
        wanted = min(of_image.shape[1], -(-_CANDIDATES // count))
        for own in of_image:
            drawn = torch.randperm(len(own), generator=generator)[:wanted].sort().values
            values.append(own[drawn])
            numbers.append(start + drawn)
            start += len(own)
    return torch.cat(values), torch.cat(numbers), grid


def _coreset(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Choose values (N, C) one by one, each the furthest from those before: indices (count,).

    In a random projection, which keeps distances (Johnson and Lindenstrauss 1984).
    """
    projection = torch.randn(values.shape[1], _PROJECTED, generator=generator) / _PROJECTED**0.5
    projected = values @ projection
    lengths = projected.square().sum(dim=1)
    nearest = torch.full((len(values),), torch.inf)
    chosen = [0]
    for _ in range(min(count, len(values)) - 1):
        last = chosen[-1]
        squares = torch.addmv(lengths + lengths[last], projected, projected[last], alpha=-2)
        nearest = torch.minimum(nearest, squares)
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)
