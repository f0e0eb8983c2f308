"""Memory: distance of each place from the nearest normal patch, in features of ImageNet.

Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection" (PatchCore). Patches are
features of a frozen encoder at strides 8 and 16, averaged with their neighbours. A greedy k-centre
coreset keeps those that lie furthest apart. A place far from every normal patch is anomalous,
wherever parts lie, and the nearest patch shows what it should have looked like.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.efficientnet import EfficientNetLite0

STAGES = ("stride8", "stride16")
STRIDE = 8  # pixels per place of the map
PATCHES = 4000  # in a memory at most: 2.4 MB of 152 channels
_CANDIDATES = 100_000  # patches of all images that a coreset is chosen from
_PROJECTED = 48  # dimensions of the random projection in which it is chosen
_CHUNK = 4096  # places at once, which bounds the memory of distances


class PatchMemory(NamedTuple):
    """Normal patches, and the network that computes such patches of an image."""

    encoder: EfficientNetLite0
    patches: Tensor  # (P, C) float32
    image: Tensor  # (P,) int64, number of the training image that a patch is from
    row: Tensor  # (P,) int64, place of the patch in that image, in units of `STRIDE`
    column: Tensor  # (P,) int64
    scale: Tensor  # (), mean distance of held-out normal places

    def to(self, device: torch.device) -> "PatchMemory":
        """Copy to a device; the network is moved."""
        tensors = (part.to(device) for part in self[1:])
        return PatchMemory(self.encoder.to(device), *tensors)


class Nearest(NamedTuple):
    """The nearest normal patch of each place."""

    distance: Tensor  # (B, h, w), 1 on average in normal images
    patch: Tensor  # (B, h, w) int64, its number in the memory


def patch_features(encoder: EfficientNetLite0, images: Tensor) -> Tensor:
    """Compute the patches of images (B, 3, H, W) in [0, 1]: (B, C, H / 8, W / 8)."""
    stages = encoder(images)
    fine, coarse = (F.avg_pool2d(stages[name], 3, 1, 1) for name in STAGES)
    size = (fine.shape[2], fine.shape[3])
    enlarged = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    return torch.cat([fine, enlarged], dim=1)


def find_nearest(images: Tensor, memory: PatchMemory) -> Nearest:
    """Find the nearest normal patch of each place of images (B, 3, H, W) in [0, 1].

    The squared distance |x - p|^2 is multiplied out, which makes it one product of matrices.
    """
    features = patch_features(memory.encoder, images)
    batch, channels, height, width = features.shape
    places = features.permute(0, 2, 3, 1).reshape(-1, channels)
    middle = memory.patches.mean(dim=0)  # float32 is too coarse for squares of large numbers
    patches = memory.patches - middle
    lengths = patches.square().sum(dim=1)
    squares, numbers = [], []
    for part in torch.split(places - middle, _CHUNK):
        found = torch.addmm(lengths, part, patches.T, alpha=-2).min(dim=1)
        squares.append((found.values + part.square().sum(dim=1)).clamp_min(0.0))
        numbers.append(found.indices)
    shape = (batch, height, width)
    distance = torch.cat(squares).sqrt().reshape(shape) / memory.scale
    return Nearest(distance, torch.cat(numbers).reshape(shape))


def fit_memory(
    encoder: EfficientNetLite0,
    fit: Iterable[Tensor],
    held_out: Iterable[Tensor],
    *,
    seed: int,
    patches: int = PATCHES,
) -> PatchMemory:
    """Choose the patches of a memory from normal images, and scale distances by held-out ones.

    Args:
        encoder: frozen.
        fit: batches of the normal images that the model is fitted to, (B, 3, S, S) in [0, 1].
        held_out: batches of other normal images; their places have a mean distance of 1.
        seed: of the random draws.
        patches: the most that are kept.
    """
    generator = torch.Generator().manual_seed(seed)
    grids = torch.cat([patch_features(encoder, batch) for batch in fit])  # (N, C, h, w)
    height, width = grids.shape[2:]
    values = grids.permute(0, 2, 3, 1).flatten(0, 2)  # (N h w, C)
    candidates = torch.randperm(len(values), generator=generator)[:_CANDIDATES].sort().values
    chosen = candidates[_coreset(values[candidates], patches, generator)]
    memory = PatchMemory(
        encoder,
        values[chosen].contiguous(),
        chosen // (height * width),
        chosen // width % height,
        chosen % width,
        torch.ones(()),
    )
    distances = torch.cat([find_nearest(batch, memory).distance for batch in held_out])
    return memory._replace(scale=distances.double().mean().float())


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
