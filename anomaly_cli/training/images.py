"""Normal images at the network's size: cached, augmented by (seed, epoch, index), batched."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.detector.together import cut_batch
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image
from anomaly_cli.training.augmentation import NONE, Augmentation, augment

Item = TypeVar("Item")


CACHE_LIMIT = 2 * 1024**3  # bytes; 10,000 images of 256 px


class NormalImages(Dataset[RGBImage]):
    """Normal images (S, S, 3) uint8, decoded once if they fit into memory.

    Args:
        paths: the files.
        size: side S in pixels.
        augmentation: ranges of the random changes.
        seed: decides each change together with epoch and index, whatever the order or the workers.
        read: decodes an image.

    Raises:
        DataError: an image cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: int,
        augmentation: Augmentation = NONE,
        seed: int = 0,
        read: Callable[[Path], RGBImage] = read_image,
    ) -> None:
        self.paths = list(paths)
        self.size = size
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0
        self._decode = read
        self._cache: list[RGBImage] | None = None
        if len(self.paths) * 3 * size**2 <= CACHE_LIMIT:
            with ThreadPoolExecutor(4) as pool:
                self._cache = list(pool.map(self._read, self.paths))

    def _read(self, path: Path) -> RGBImage:
        return resize_image(self._decode(path), self.size, self.size)

    def __len__(self) -> int:
        return len(self.paths)

    def plain(self, index: int) -> RGBImage:
        """Get image `index` without augmentation."""
        return self._cache[index] if self._cache else self._read(self.paths[index])

    def __getitem__(self, index: int) -> RGBImage:
        """Get image `index` as augmented in this epoch."""
        if self.augmentation == NONE:
            return self.plain(index)
        generator = np.random.default_rng([self.seed, self.epoch, index])
        return augment(self.plain(index), self.augmentation, generator)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all images in order, not augmented, as batches (B, 3, S, S) in [0, 1]."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield to_tensor(np.stack([self.plain(index) for index in range(start, stop)]))


def epoch_order(images: NormalImages, epoch: int, batch_size: int) -> list[list[int]]:
    """Draw the shuffled batches of one epoch, a function of (seed, epoch) alone.

    The last, incomplete batch is left out: batch norm would give its few images too much weight.
    """
    order = np.random.default_rng([images.seed, epoch]).permutation(len(images))
    size = min(batch_size, len(images))
    return [order[i : i + size].tolist() for i in range(0, len(order) - size + 1, size)]


def batch_loader(
    dataset: Dataset[Item],
    batches: list[list[int]],
    collate: Callable[[list[Item]], Any],
    *,
    workers: int,
) -> DataLoader[Item]:
    """Make a loader of the batches of a dataset, with `workers` processes; with 0 in this one.

    A process that trains with others loads its part of each batch.
    """
    return DataLoader(
        dataset,
        batch_sampler=[cut_batch(batch) for batch in batches],
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )


def collate_images(images: list[RGBImage]) -> Tensor:
    """Stack images of one size: (B, 3, S, S) float32 in [0, 1]."""
    return to_tensor(np.stack(images))
