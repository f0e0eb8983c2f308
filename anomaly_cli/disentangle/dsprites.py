"""dSprites: 737,280 binary images of one sprite each, from the official file or rendered.

Matthey et al. 2017, https://github.com/google-deepmind/dsprites-dataset. The index of an image is
its place in the official order, in which y varies fastest. Colour has one value and is left out.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.disentangle.dsprites_file import read_packed_images
from anomaly_cli.disentangle.sprites import IMAGE_SIZE, draw_sprites
from anomaly_cli.files.atomic import hash_file

FACTORS = ("shape", "scale", "orientation", "x", "y")
FACTOR_SIZES = (3, 6, 40, 32, 32)  # shapes are square, ellipse, heart; scales grow
IMAGE_COUNT = 737_280  # one image for each combination of factor values


class SpriteImages(Protocol):
    """Images of dSprites by index."""

    @property
    def source(self) -> str:
        """Origin of the images: `rendered`, or `sha256:` and the digest of the file."""

    def __len__(self) -> int:
        """Count the images."""

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of these indices: (B,) -> (B, 64, 64) uint8, 0 or 1.

        Raises:
            ValueError: an index is negative or not below `len`.
        """


class RenderedSprites:
    """Images that are rendered on request, in 0.3 ms for 64; nothing is stored."""

    source = "rendered"

    def __len__(self) -> int:
        """Count the images."""
        return IMAGE_COUNT

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of these indices: (B,) -> (B, 64, 64) uint8, 0 or 1.

        Raises:
            ValueError: an index is negative or not below `len`.
        """
        return draw_sprites(factors_of(indices))


class StoredSprites:
    """Images of the official file, stored as one bit per pixel: 377 MB instead of 3 GB.

    Args:
        packed: the first images in the official order, (N, 512), as `numpy.packbits` gives them.
        source: origin of the images, for reports.
    """

    def __init__(self, packed: NDArray[np.uint8], *, source: str) -> None:
        self.source = source
        self._packed = packed

    def __len__(self) -> int:
        """Count the images."""
        return len(self._packed)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of these indices: (B,) -> (B, 64, 64) uint8, 0 or 1.

        Raises:
            ValueError: an index is negative or not below `len`.
        """
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise ValueError(f"expected indices from 0 to {len(self) - 1}")
        bits = np.unpackbits(self._packed[indices], axis=1)
        return bits.reshape(-1, IMAGE_SIZE, IMAGE_SIZE)


def factors_of(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute factor values from indices of images: (B,) -> (B, 5), below FACTOR_SIZES.

    Raises:
        ValueError: an index is negative or too large.
    """
    return np.stack(np.unravel_index(indices, FACTOR_SIZES), axis=1).astype(np.int64)


def indices_of(factors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute indices of images from their factor values: (B, 5) -> (B,).

    Raises:
        ValueError: a factor value is negative or too large.
    """
    return np.asarray(np.ravel_multi_index(tuple(factors.T), FACTOR_SIZES), np.int64)


def open_dsprites(path: Path | None) -> SpriteImages:
    """Open the images of the official npz file, or the renderer if `path` is None.

    The file takes about 15 seconds to read, and 377 MB of memory. docs/dsprites.md compares the
    rendered images with the official ones.

    Raises:
        DataError: the file is missing, damaged, or not dSprites.
    """
    if path is None:
        return RenderedSprites()
    classes = factors_of(np.arange(IMAGE_COUNT))
    packed = read_packed_images(path, classes)
    return StoredSprites(packed, source=f"sha256:{hash_file(path)}")
