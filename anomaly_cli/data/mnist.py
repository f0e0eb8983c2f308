"""The official idx files of MNIST: one digit for training, all digits for test.

The files are `<root>/MNIST/raw/train-images-idx3-ubyte` and its three companions, plain or as
`.gz`. torchvision puts them there too, so that one folder serves both, but torchvision's own
reader needs them unpacked. An image is not a file of its own here: its path is the path of the
idx file, followed by the number of the image.
"""

import gzip
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.samples import GOOD, Sample
from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.files.images import RGBImage

DIGITS = tuple("0123456789")
SIDE = 28  # pixels of an image
_BYTES = 0x08  # element type of an idx file
_LARGEST = 200_000_000  # bytes of an idx file, four times what MNIST has
_KINDS = {"images": 3, "labels": 1}  # number of dimensions


def select_categories(root: Path, category: str) -> list[str]:
    """Select the digit `category`, or all ten digits for "all".

    Raises:
        ConfigError: `category` is not a digit.
        DataError: the file of the training images does not exist.
    """
    if category != "all" and category not in DIGITS:
        raise ConfigError(f"--category {category} is no digit; MNIST has 0 to 9, or all")
    find_file(root, "train", "images")
    return list(DIGITS) if category == "all" else [category]


def training_images(root: Path, category: str) -> list[Path]:
    """List the images of a digit in the training split, in the order of the file.

    Raises:
        DataError: the files are missing or damaged, or contain fewer than three such images.
    """
    found = np.flatnonzero(_labels(root, "train") == int(category))
    if len(found) < 3:
        raise DataError(f"MNIST under {root} has {len(found)} images of {category}; 3 are needed")
    file = find_file(root, "train", "images")
    return [file / f"{number:05}" for number in found.tolist()]


def test_samples(root: Path, category: str) -> list[Sample]:
    """List all images of the test split, sorted by defect type.

    Images of the digit `category` are normal. The defect type of any other digit is its name.

    Raises:
        DataError: the files are missing or damaged.
    """
    file = find_file(root, "t10k", "images")
    samples = []
    for number, label in enumerate(_labels(root, "t10k").tolist()):
        defect_type = GOOD if str(label) == category else str(label)
        name = f"{number:05}"
        samples.append(Sample(file / name, defect_type, None, title=f"t10k/{name}"))
    return sorted(samples, key=lambda sample: sample.defect_type)


test_samples.__test__ = False  # type: ignore[attr-defined] # pytest would collect it


def read_image(path: Path) -> RGBImage:
    """Read the image at `<idx file>/<number>` as (28, 28, 3) uint8 with three equal channels.

    Raises:
        DataError: the file is missing or damaged, or has no image of this number.
    """
    images = _read_images(path.parent)
    if not path.name.isdecimal() or int(path.name) >= len(images):
        raise DataError(f"{path.parent} has no image {path.name}; it has {len(images)}")
    return np.repeat(images[int(path.name)][..., None], 3, axis=2)


def stored_files(paths: Sequence[Path]) -> list[Path]:
    """List the idx files that contain these images, and those of their labels."""
    images = sorted({path.parent for path in paths})
    labels = [_companion(file) for file in images]
    return [*images, *labels]


def _companion(images: Path) -> Path:
    split = images.name.split("-")[0]
    return find_file(images.parent.parent.parent, split, "labels")


def _labels(root: Path, split: str) -> NDArray[np.uint8]:
    images = _read_images(find_file(root, split, "images"))
    file = find_file(root, split, "labels")
    labels = read_idx(file)
    if labels.ndim != 1:
        raise DataError(f"{file} holds an array of shape {labels.shape}; one label each is read")
    if len(labels) != len(images):
        raise DataError(
            f"MNIST under {root}: {len(images)} images of {split}, {len(labels)} labels"
        )
    return labels


def find_file(root: Path, split: str, kind: str) -> Path:
    """Find an idx file, plain or compressed.

    Args:
        root: folder that contains `MNIST/raw`.
        split: `train` or `t10k`.
        kind: `images` or `labels`.

    Raises:
        DataError: the file does not exist.
    """
    folder = root / "MNIST" / "raw"
    name = f"{split}-{kind}-idx{_KINDS[kind]}-ubyte"
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder / name} does not exist, nor with .gz; --data holds MNIST/raw")


def _read_images(path: Path) -> NDArray[np.uint8]:
    images = read_idx(path)
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{path} holds an array of shape {images.shape}; images of {SIDE} x {SIDE} are read"
        )
    return images


@lru_cache(maxsize=4)
def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read the array of an idx file of bytes, plain or compressed; the array is read-only.

    Raises:
        DataError: the file cannot be read, is not an idx file of bytes, or is truncated.
    """
    opened = gzip.open if path.suffix == ".gz" else Path.open
    try:
        with opened(path, "rb") as stream:
            content = stream.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if len(content) > _LARGEST:
        raise DataError(f"cannot read {path}: it holds more than {_LARGEST:,} bytes")
    # The header: two zeros, the type of the elements, the number of dimensions, their sizes.
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    is_header = content[:3] == bytes([0, 0, _BYTES]) and 1 <= dimensions <= 3
    if not is_header or len(content) < start:
        raise DataError(f"{path} is not an idx file of bytes, as MNIST has them")
    shape = np.frombuffer(content[4:start], ">u4").astype(int).tolist()
    if len(content) - start != int(np.prod(shape)):
        raise DataError(f"{path} is damaged: {len(content) - start} bytes for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
