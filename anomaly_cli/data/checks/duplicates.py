"""Images that are equal, or so similar that they are probably one photograph.

Two images are near duplicates if they meet both conditions:

- Their perceptual hashes differ in at most 12 of 255 bits. A hash has one bit for each of the 255
  lowest frequencies of a 64 x 64 grey thumbnail. The bit is set if the DCT coefficient is above
  the median of all 255.
- Their thumbnails, at equal mean and contrast, differ by at most an eighth of the usual distance
  between two images of the category.

By the hash alone, all parts with the same print would be copies, because the features that all
parts share decide most bits. The second condition therefore demands more than the usual
similarity within the category. The two most similar of the real MVTec bottles differ in 14 bits
and by a fifth of the usual distance. The same bottle, saved as JPEG of quality 30, at half the
size or with noise, differs in at most 8 bits and by a fourteenth.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.checks.inspection import THUMBNAIL_SIDE, ImageFacts

HASH_SIDE = 16  # frequencies in each direction
HASH_BITS = HASH_SIDE**2 - 1  # the mean is left out
MAX_HASH_DISTANCE = 12  # bits
MAX_SHARE_OF_USUAL = 1 / 8  # of `usual_distance`
_BLOCK = 512  # images whose distances to all others are in memory at a time
_SAMPLED_PAIRS = 2000  # pairs of images that estimate the usual distance


class Pair(NamedTuple):
    """Two images that are near duplicates."""

    first: Path
    second: Path
    distance: int  # bits of the hash, of 255


class Fingerprints(NamedTuple):
    """Descriptions of N images, ready to be compared by matrix products."""

    paths: list[Path]
    digests: NDArray[np.str_]  # (N,)
    hashes: NDArray[np.float32]  # (N, 255), -1 or 1
    thumbnails: NDArray[np.float32]  # (N, 4096), each of mean 0 and norm 1


def group_equal(images: Sequence[ImageFacts]) -> list[list[ImageFacts]]:
    """Group images whose pixels are all equal, two or more per group, in the given order."""
    groups = defaultdict(list)
    for image in images:
        groups[image.digest].append(image)
    return [group for group in groups.values() if len(group) > 1]


def describe(images: Sequence[ImageFacts]) -> Fingerprints:
    """Hash and normalise the thumbnails of images."""
    hashes = np.array([perceptual_hash(image.thumbnail) for image in images])
    return Fingerprints(
        [image.path for image in images],
        np.array([image.digest for image in images], np.str_),
        hashes.reshape(-1, HASH_BITS).astype(np.float32) * 2 - 1,
        unit_thumbnails([image.thumbnail for image in images]),
    )


def unit_thumbnails(thumbnails: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Scale thumbnails (64, 64) to mean 0 and norm 1, and flatten them: (N, 4096)."""
    rows = np.array(thumbnails, np.float32).reshape(-1, THUMBNAIL_SIDE**2)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6
    return rows


def perceptual_hash(thumbnail: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Compute which low frequencies of a thumbnail (64, 64) are above their median: (255,)."""
    coefficients = cv2.dct(thumbnail)[:HASH_SIDE, :HASH_SIDE].ravel()[1:]
    return np.asarray(coefficients > np.median(coefficients))


def usual_distance(thumbnails: NDArray[np.float32]) -> float:
    """Estimate the median distance between two different images.

    The distance is Euclidean, so it is the root of 2 - 2 times the correlation.

    Args:
        thumbnails: from `unit_thumbnails`, shape (N, 4096).

    Returns:
        In [0, 2]; 0 for fewer than two images.
    """
    count = len(thumbnails)
    if count < 2:
        return 0.0
    generator = np.random.default_rng(0)
    first = generator.integers(count, size=_SAMPLED_PAIRS)
    second = (first + generator.integers(1, count, size=_SAMPLED_PAIRS)) % count
    pairs = zip(first, second, strict=True)
    products = np.array([thumbnails[i] @ thumbnails[j] for i, j in pairs])
    return float(np.median(_distance(products)))


def near_copies(
    prints: Fingerprints, others: Fingerprints | None = None, *, usual: float
) -> list[Pair]:
    """Find the closest near duplicate of each image that has one; closest pairs first.

    Images with equal pixels are left out, because `group_equal` finds them.

    Args:
        prints: images that may be copies.
        others: images that they may be copies of. With None, each image is compared with those
            before it in `prints`.
        usual: `usual_distance` of the category.
    """
    originals = prints if others is None else others
    pairs = []
    for start in range(0, len(prints.paths) if originals.paths else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        bits = (HASH_BITS - prints.hashes[block] @ originals.hashes.T) / 2
        distance = _distance(prints.thumbnails[block] @ originals.thumbnails.T)
        is_near = (bits <= MAX_HASH_DISTANCE) & (distance <= usual * MAX_SHARE_OF_USUAL)
        is_near &= prints.digests[block, None] != originals.digests[None]
        if others is None:
            rows, columns = bits.shape
            is_near &= np.tri(rows, columns, start - 1, dtype=bool)
        for row in np.flatnonzero(is_near.any(axis=1)):
            best = int(np.where(is_near[row], distance[row], np.inf).argmin())
            pair = Pair(originals.paths[best], prints.paths[start + row], round(bits[row, best]))
            pairs.append((float(distance[row, best]), pair))
    return [pair for _, pair in sorted(pairs)]


def _distance(products: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sqrt(np.maximum(2 - 2 * products, 0))
