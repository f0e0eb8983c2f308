"""dSprites: 737,280 binary images of one sprite, from the official file or drawn from factors.

Matthey et al. 2017, https://github.com/google-deepmind/dsprites-dataset. An image is known by its
index in the official order, in which y varies fastest. Colour has one value and is left out.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.dsprites_file import read_packed_images
from anomaly_cli.data.sprites import IMAGE_SIZE, draw_sprites
from anomaly_cli.files.atomic import hash_file

FACTORS = ("shape", "scale", "orientation", "x", "y")
FACTOR_SIZES = (3, 6, 40, 32, 32)  # shapes are square, ellipse, heart; scales grow
IMAGE_COUNT = 737_280  # one image for each combination of factor values


class SpriteImages(Protocol):
    """All images of dSprites, by index."""

    @property
    def source(self) -> str:
        """What the images are: `rendered`, or `sha256:` and the digest of the file."""

    def __len__(self) -> int:
        """Number of images."""

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of these indices: (B,) -> (B, 64, 64), 0 or 1.

        Raises:
            ValueError: an index is negative or not below `len`.
        """


class RenderedSprites:
    """Images that are drawn when they are asked for, 0.3 ms for 64; nothing is stored."""

    source = "rendered"

    def __len__(self) -> int:
        """Number of images."""
        return IMAGE_COUNT

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of these indices: (B,) -> (B, 64, 64), 0 or 1.

        Raises:
            ValueError: an index is negative or not below `len`.
        """
        return draw_sprites(factors_of(indices))


class StoredSprites:
    """Images of the official file, held as one bit per pixel: 377 MB instead of 3 GB.

    Args:
        packed: the first images in the official order, (N, 512), as `numpy.packbits` gives them.
        source: what a report shall say about them.
    """

    def __init__(self, packed: NDArray[np.uint8], *, source: str) -> None:
        self.source = source
        self._packed = packed

    def __len__(self) -> int:
        """Number of images."""
        return len(self._packed)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of these indices: (B,) -> (B, 64, 64), 0 or 1.

        Raises:
            ValueError: an index is negative or not below `len`.
        """
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise ValueError(f"expected indices from 0 to {len(self) - 1}")
        bits = np.unpackbits(self._packed[indices], axis=1)
        return bits.reshape(-1, IMAGE_SIZE, IMAGE_SIZE)


def factors_of(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Factor values of images by their index: (B,) -> (B, 5), each from 0 and below its size.

    Raises:
        ValueError: an index is negative or too large.
    """
    return np.stack(np.unravel_index(indices, FACTOR_SIZES), axis=1).astype(np.int64)


def indices_of(factors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of images by their factor values: (B, 5) -> (B,).

    Raises:
        ValueError: a factor value is negative or too large.
    """
    return np.asarray(np.ravel_multi_index(tuple(factors.T), FACTOR_SIZES), np.int64)


def open_dsprites(path: Path | None) -> SpriteImages:
    """The images of the official npz file, or without a path the renderer.

    The file takes about a quarter of a minute to read and 377 MB of memory. docs/dsprites.md says
    how close the rendered images come.

    Raises:
        DataError: the file is missing, damaged, or not dSprites.
    """
    if path is None:
        return RenderedSprites()
    classes = factors_of(np.arange(IMAGE_COUNT))
    packed = read_packed_images(path, classes)
    return StoredSprites(packed, source=f"sha256:{hash_file(path)}")
