"""Normal images and copies of them with synthetic defects, from which guided attention learns."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from anomaly_cli.data.defects import DefectKind, DefectPainter, SyntheticDefect
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.files.images import Mask, RGBImage
from anomaly_cli.training.images import NormalImages

PAINTED_SHARE = 0.75  # share of the images of an epoch with defects; the others stay normal
MAX_VALIDATION = 40  # defects for validation; more add little, and each evaluation maps them all
_STREAM = 1  # keeps these random numbers apart from those of the augmentation

Painter = Callable[[RGBImage, np.random.Generator], SyntheticDefect]


class PaintedImage(NamedTuple):
    """A normal image, and a copy of it with or without synthetic defects."""

    normal: RGBImage  # (S, S, 3)
    painted: RGBImage  # (S, S, 3)
    mask: Mask  # (S, S): where they differ
    kind: DefectKind | None = None  # kind of the first defect; None: there is none
    number: int = 0  # of the normal image


class PaintedBatch(NamedTuple):
    """A batch of normal images and their copies with synthetic defects, as tensors."""

    normal: Tensor  # (B, 3, S, S) float32 in [0, 1]
    painted: Tensor  # (B, 3, S, S) float32 in [0, 1]
    masks: Tensor  # (B, S, S) float32, 0 or 1

    def to(self, device: torch.device) -> "PaintedBatch":
        """Copy the batch to a device."""
        return PaintedBatch(*(part.to(device, non_blocking=True) for part in self))


class PaintedImages(Dataset[PaintedImage]):
    """Augmented normal images, most of them with synthetic defects drawn by (seed, epoch, index).

    Args:
        images: the normal images.
        painter: draws defects into one image.
    """

    def __init__(self, images: NormalImages, painter: Painter) -> None:
        self.images = images
        self.painter = painter

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> PaintedImage:
        """Get image `index` of this epoch."""
        normal = self.images[index]
        seed = [self.images.seed, self.images.epoch, index, _STREAM]
        generator = np.random.default_rng(seed)
        if generator.random() >= PAINTED_SHARE:
            return PaintedImage(normal, normal, np.zeros(normal.shape[:2], bool))
        defect = self.painter(normal, generator)
        return PaintedImage(normal, defect.image, defect.mask, defect.kind)


def collate_painted(images: list[PaintedImage]) -> PaintedBatch:
    """Stack images of one size into a batch of tensors."""
    normal, painted, masks = (np.stack(part) for part in zip(*(i[:3] for i in images), strict=True))
    return PaintedBatch(to_tensor(normal), to_tensor(painted), torch.from_numpy(masks).float())


def painted_batches(images: Sequence[PaintedImage], size: int) -> Iterator[Tensor]:
    """Yield the copies with synthetic defects, `size` at once: (B, 3, S, S) in [0, 1]."""
    for start in range(0, len(images), size):
        yield to_tensor(np.stack([image.painted for image in images[start : start + size]]))


def draw_validation(
    held_out: NormalImages, painter: DefectPainter, *, seed: int
) -> list[PaintedImage]:
    """Draw a validation set: held-out images with one synthetic defect each, and without any.

    It has at most `MAX_VALIDATION` images of either sort. Kinds of defects take turns. Every image
    is used before one is used again with another kind of defect. The set stands in for labelled
    images wherever something has to be chosen; the test split is never used.
    """
    kinds = list(painter.kinds)
    painted = []
    for number in range(min(MAX_VALIDATION, len(held_out) * len(kinds))):
        position, turn = number % len(held_out), number // len(held_out)
        generator = np.random.default_rng([seed, position, turn])
        normal = held_out.plain(position)
        defect = painter(normal, generator, kind=kinds[(position + turn) % len(kinds)])
        painted.append(PaintedImage(normal, defect.image, defect.mask, defect.kind, position))
    for position in range(min(MAX_VALIDATION, len(held_out))):
        normal = held_out.plain(position)
        mask = np.zeros(normal.shape[:2], bool)
        painted.append(PaintedImage(normal, normal, mask, number=position))
    return painted
