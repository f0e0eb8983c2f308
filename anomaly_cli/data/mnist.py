"""The official idx files of MNIST -> one digit to train on, all digits to test with.

`<root>/MNIST/raw/train-images-idx3-ubyte` and its three companions, plain or as `.gz`: where
torchvision puts them, so that one folder serves both. torchvision's own reader wants them
unpacked. An image is no file here: its path is that of the idx file, with its number below.
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
_BYTES = 0x08  # element type of an idx file
_KINDS = {"images": 3, "labels": 1}  # dimensions


def select_categories(root: Path, category: str) -> list[str]:
    """The digit of that name, or all ten for "all".

    Raises:
        ConfigError: it is no digit.
        DataError: the files are not there.
    """
    if category != "all" and category not in DIGITS:
        raise ConfigError(f"--category {category} is no digit; MNIST has 0 to 9, or all")
    find_file(root, "train", "images")
    return list(DIGITS) if category == "all" else [category]


def training_images(root: Path, category: str) -> list[Path]:
    """The images of a digit in the training split.

    Raises:
        DataError: the files are not there or damaged, or hold fewer than three such images.
    """
    found = np.flatnonzero(_labels(root, "train") == int(category))
    if len(found) < 3:
        raise DataError(f"MNIST under {root} has {len(found)} images of {category}; 3 are needed")
    file = find_file(root, "train", "images")
    return [file / f"{number:05}" for number in found.tolist()]


def test_samples(root: Path, category: str) -> list[Sample]:
    """All images of the test split; the defect type of another digit is its name.

    Raises:
        DataError: the files are not there or damaged.
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
    """The image (28, 28, 3) of `<idx file>/<number>`, its grey repeated.

    Raises:
        DataError: the file is not there or damaged, or has no such image.
    """
    images = read_idx(path.parent)
    if not path.name.isdecimal() or int(path.name) >= len(images):
        raise DataError(f"{path.parent} has no image {path.name}; it has {len(images)}")
    return np.repeat(images[int(path.name)][..., None], 3, axis=2)


def stored_files(paths: Sequence[Path]) -> list[Path]:
    """The idx files that hold these images, and those of their labels."""
    images = sorted({path.parent for path in paths})
    labels = [_companion(file) for file in images]
    return [*images, *labels]


def _companion(images: Path) -> Path:
    split = images.name.split("-")[0]
    return find_file(images.parent.parent.parent, split, "labels")


def _labels(root: Path, split: str) -> NDArray[np.uint8]:
    images = read_idx(find_file(root, split, "images"))
    labels = read_idx(find_file(root, split, "labels"))
    if len(labels) != len(images):
        raise DataError(
            f"MNIST under {root}: {len(images)} images of {split}, {len(labels)} labels"
        )
    return labels


def find_file(root: Path, split: str, kind: str) -> Path:
    """An idx file of a split (`train` or `t10k`), `images` or `labels`, packed or not.

    Raises:
        DataError: it is not there.
    """
    folder = root / "MNIST" / "raw"
    name = f"{split}-{kind}-idx{_KINDS[kind]}-ubyte"
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder / name} does not exist, nor with .gz; --data holds MNIST/raw")


@lru_cache(maxsize=4)
def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an idx file of bytes, packed or not; read-only.

    Raises:
        DataError: it cannot be read, is no idx file of bytes, or is cut off.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    # Two zeros, the type of the elements, the number of dimensions, then their sizes.
    dimensions = content[3] if len(content) > 3 else 0
    if content[:3] != bytes([0, 0, _BYTES]) or not 1 <= dimensions <= 3:
        raise DataError(f"{path} is not an idx file of bytes, as MNIST has them")
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], ">u4").astype(int).tolist()
    if len(content) - start != int(np.prod(shape)):
        raise DataError(f"{path} is damaged: {len(content) - start} bytes for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
