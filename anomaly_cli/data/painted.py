"""Normal images beside themselves with a defect drawn in: what guided attention learns from."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from anomaly_cli.data.defects import DefectKind, DefectPainter, SyntheticDefect
from anomaly_cli.data.normal import NormalImages, to_tensor
from anomaly_cli.files.images import Mask, RGBImage

PAINTED_SHARE = 0.75  # of the images of an epoch; the others keep the network calm
MAX_VALIDATION = 40  # defects for validation; more tell little, and each epoch draws their maps
_STREAM = 1  # of random numbers, apart from that of the augmentation

Painter = Callable[[RGBImage, np.random.Generator], SyntheticDefect]


class PaintedImage(NamedTuple):
    """A normal image, and the same with at most one defect."""

    normal: RGBImage  # (S, S, 3)
    painted: RGBImage  # (S, S, 3)
    mask: Mask  # (S, S): where they differ
    kind: DefectKind | None = None  # of the defect; None without


class PaintedBatch(NamedTuple):
    """The same as tensors."""

    normal: Tensor  # (B, 3, S, S) float32 in [0, 1]
    painted: Tensor  # (B, 3, S, S) float32 in [0, 1]
    masks: Tensor  # (B, S, S) float32, 0 or 1

    def to(self, device: torch.device) -> "PaintedBatch":
        """The batch on another device."""
        return PaintedBatch(*(part.to(device, non_blocking=True) for part in self))


class PaintedImages(Dataset[PaintedImage]):
    """Normal images as augmented, most of them with a defect, drawn by (seed, epoch, index).

    Args:
        images: the normal images.
        painter: draws a defect into one image.
    """

    def __init__(self, images: NormalImages, painter: Painter) -> None:
        self.images = images
        self.painter = painter

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> PaintedImage:
        """Image `index` of this epoch."""
        normal = self.images[index]
        seed = [self.images.seed, self.images.epoch, index, _STREAM]
        generator = np.random.default_rng(seed)
        if generator.random() >= PAINTED_SHARE:
            return PaintedImage(normal, normal, np.zeros(normal.shape[:2], bool))
        defect = self.painter(normal, generator)
        return PaintedImage(normal, defect.image, defect.mask, defect.kind)


def collate_painted(images: list[PaintedImage]) -> PaintedBatch:
    """Stack images of one size."""
    normal, painted, masks = (np.stack(part) for part in zip(*(i[:3] for i in images), strict=True))
    return PaintedBatch(to_tensor(normal), to_tensor(painted), torch.from_numpy(masks).float())


def painted_batches(images: Sequence[PaintedImage], size: int) -> Iterator[Tensor]:
    """The painted images (B, 3, S, S) in [0, 1], `size` at once."""
    for start in range(0, len(images), size):
        yield to_tensor(np.stack([image.painted for image in images[start : start + size]]))


def draw_validation(
    held_out: NormalImages, painter: DefectPainter, *, seed: int
) -> list[PaintedImage]:
    """Held-out normal images with one defect each, kinds in turn, and as many as they are.

    Every image is used before one is used again with another kind of defect. It stands in for a
    labelled set wherever something has to be chosen; the test split is never looked at.
    """
    kinds = list(painter.kinds)
    painted = []
    for number in range(min(MAX_VALIDATION, len(held_out) * len(kinds))):
        position, turn = number % len(held_out), number // len(held_out)
        generator = np.random.default_rng([seed, position, turn])
        normal = held_out.plain(position)
        defect = painter(normal, generator, kind=kinds[(position + turn) % len(kinds)])
        painted.append(PaintedImage(normal, defect.image, defect.mask, defect.kind))
    for position in range(min(MAX_VALIDATION, len(held_out))):
        normal = held_out.plain(position)
        painted.append(PaintedImage(normal, normal, np.zeros(normal.shape[:2], bool)))
    return painted
