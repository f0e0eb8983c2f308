"""Read the official dSprites file into one bit per pixel. No pickle in it is ever loaded."""

import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from anomaly_cli.disentangle.sprites import IMAGE_SIZE
from anomaly_cli.errors import DataError

_PIXELS = IMAGE_SIZE * IMAGE_SIZE
_CHUNK = 4096  # images; 16 MB
_EXPECTED = "expected dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"


def read_packed_images(path: Path, factors: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read images as bits, and check that the file has them in the order of `factors`.

    Only the members `imgs` and `latents_classes` are read, piece by piece. The pickled `metadata`
    of the official file is not.

    Args:
        path: npz file with `imgs` uint8 (N, 64, 64) of 0 and 1 and `latents_classes` int64 (N, 6),
            colour first.
        factors: expected classes without colour, (N, 5).

    Returns:
        Shape (N, 512), rows in the format of `numpy.packbits`.

    Raises:
        DataError: the file is missing, damaged, or not as described.
    """
    images_shape = (len(factors), IMAGE_SIZE, IMAGE_SIZE)
    classes_shape = (len(factors), factors.shape[1] + 1)
    try:
        with (
            zipfile.ZipFile(path) as archive,
            _open_array(archive, path, "imgs", np.uint8, images_shape) as images,
            _open_array(archive, path, "latents_classes", np.int64, classes_shape) as classes,
        ):
            _check_order(classes, path, factors)
            return _pack_images(images, path, len(factors))
    except DataError:
        raise
    # OSError, EOFError, ValueError, RuntimeError, BadZipFile, zlib.error and others.
    except Exception as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise DataError(f"cannot read {path}: {reason}; {_EXPECTED}") from error


def _open_array(
    archive: zipfile.ZipFile, path: Path, name: str, dtype: type[np.generic], shape: tuple[int, ...]
) -> IO[bytes]:
    """Open an array of the archive and check its header; the stream begins with the values.

    Raises:
        DataError: there is no such array, or it has another type or shape.
        ValueError: the header cannot be read.
    """
    if f"{name}.npy" not in archive.namelist():
        found = ", ".join(member.removesuffix(".npy") for member in archive.namelist()[:8])
        raise DataError(f"{path} holds no array {name}, but {found or 'nothing'}; {_EXPECTED}")
    stream = archive.open(f"{name}.npy")
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    found_shape, is_fortran, found_dtype = read_header(stream)
    if found_dtype != np.dtype(dtype) or found_shape != shape or is_fortran:
        raise DataError(
            f"{name} in {path} is {found_dtype} of shape {found_shape} where "
            f"{np.dtype(dtype)} of shape {shape} was expected"
        )
    return stream


def _check_order(stream: IO[bytes], path: Path, factors: NDArray[np.int64]) -> None:
    columns = factors.shape[1] + 1
    for start in range(0, len(factors), _CHUNK):
        expected = factors[start : start + _CHUNK]
        content = _read(stream, len(expected) * columns * 8)
        classes = np.frombuffer(content, np.int64).reshape(-1, columns)
        if classes[:, 0].any() or (classes[:, 1:] != expected).any():
            raise DataError(f"latents_classes in {path} are not in the official order")


def _pack_images(stream: IO[bytes], path: Path, count: int) -> NDArray[np.uint8]:
    packed = np.empty((count, _PIXELS // 8), np.uint8)
    for start in range(0, count, _CHUNK):
        rows = packed[start : start + _CHUNK]
        pixels = np.frombuffer(_read(stream, len(rows) * _PIXELS), np.uint8)
        if pixels.max() > 1:
            raise DataError(f"imgs in {path} hold {pixels.max()}; expected only 0 and 1")
        rows[:] = np.packbits(pixels.reshape(-1, _PIXELS), axis=1)
    if stream.read(1):  # zipfile compares the checksum at the end of a member
        raise DataError(f"imgs in {path} hold more than their header says")
    return packed


def _read(stream: IO[bytes], size: int) -> bytes:
    """Read exactly `size` bytes.

    Raises:
        EOFError: there are fewer.
    """
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("an array ends before its last value")
    return content
