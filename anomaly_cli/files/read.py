"""One reader of pictures: it decides what the values of a file mean, for images, masks and maps.

Pillow decodes most files. TIFF files of a kind that it decodes wrongly, or not at all, are decoded
by tifffile. Only the decoders of the formats below are used: others start programs, for example.
"""

import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from anomaly_cli.errors import DataError
from anomaly_cli.files.images import Mask, RGBImage
from anomaly_cli.files.limits import bound_pixels
from anomaly_cli.files.tiff import (
    ORIENTATION,
    TURNED,
    count_tiff_pages,
    decode_tiff,
    is_deep_tiff,
    is_tiff,
    tiff_size,
)

T = TypeVar("T")

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "JPEG2000", "AVIF", "TGA")
_LOSSY = {"JPEG", "MPO", "WEBP", "AVIF", "JPEG2000"}  # some of their files are exact
_ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}
_NOISE = 8  # of 255; a lossy picture of black has such values
_BAND = 256  # rows that are converted at once
_DIRECT = {"RGB", "RGBA", "L", "LA", "P", "PA", "1", "I;16", "I;16B", "I;16L", "F"}


class Picture(NamedTuple):
    """Decoded values of a file, upright."""

    values: NDArray[Any]  # (H, W) or (H, W, C): grey, RGB or RGBA, as they are in the file
    alpha: NDArray[np.uint8] | None  # (H, W), 255 is opaque; None: there is none
    format: str = "TIFF"  # as Pillow names it


class GreyMask(NamedTuple):
    """A ground-truth mask, and how far its file says clearly what is marked."""

    mask: Mask
    levels: int  # number of different values, black among them
    is_lossy: bool  # the format has changed the values


def read_image(path: Path) -> RGBImage:
    """Read any image as (H, W, 3) uint8 RGB, rotated upright by its EXIF.

    Grey is repeated to three channels. 16 bits are scaled by 255/65535 (not truncated), floats
    have to be in [0, 1], and transparency is laid over white. Of several pages, the first is read.

    Raises:
        DataError: the file cannot be decoded to its end, is too large, or holds values whose
            meaning is not known.
    """
    return _guarded(path, _decode_rgb)


def read_mask(path: Path) -> Mask:
    """Read a ground-truth mask as (H, W) bool: every value above 0 is anomalous.

    What is fully transparent is not marked. Of a lossy format, such as JPEG, what is brighter than
    half of the brightest value is marked.

    Raises:
        DataError: the file cannot be decoded to its end, is too large, or holds values that are
            not numbers.
    """
    return read_grey_mask(path).mask


def read_grey_mask(path: Path) -> GreyMask:
    """Read a ground-truth mask, and count its values; see `read_mask`.

    Raises:
        DataError: as for `read_mask`.
    """
    values, alpha, file_format = _guarded(path, _decode)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise DataError(f"cannot read {path}: it holds values that are not numbers")
    grey = values if values.ndim == 2 else values.max(axis=2)
    if alpha is not None:
        grey = np.where(alpha > 0, grey, 0)
    levels = _count_levels(grey)
    is_lossy = file_format in _LOSSY and levels > 2
    floor = max(int(grey.max()) // 2, _NOISE) if is_lossy else 0
    return GreyMask(np.asarray(grey > floor), levels, is_lossy)


def _count_levels(grey: NDArray[Any]) -> int:
    if grey.dtype == np.uint8:  # 20 times faster than to sort them
        return int(np.count_nonzero(np.bincount(grey.ravel(), minlength=256)))
    return len(np.unique(grey))


def read_values(path: Path) -> NDArray[Any]:
    """Read the values of a picture as they are in the file, (H, W) or (H, W, C).

    Raises:
        DataError: the file cannot be decoded to its end, or is too large.
    """
    return _guarded(path, _decode).values


def count_pages(path: Path) -> int:
    """Count the pages or frames of a picture; smaller copies of one page do not count.

    Of several pages, the first one is read.

    Raises:
        DataError: the file cannot be opened.
    """

    def count(own: Path) -> int:
        if is_tiff(own):
            return count_tiff_pages(own)
        with _open(own) as header:  # a photograph of a phone may hold small copies of itself
            return _count_frames(header) if header.format in _ANIMATED else 1

    return _guarded(path, count)


def _count_frames(header: Image.Image) -> int:
    try:
        return int(getattr(header, "n_frames", 1))
    except Exception:  # noqa: BLE001 - a damaged frame beyond the first, which is not read
        return 1


def is_deep(path: Path) -> bool:
    """Check whether a picture has more than 8 bits per channel; its pixels are not decoded.

    Raises:
        DataError: the file cannot be opened.
    """

    def check(own: Path) -> bool:
        if is_tiff(own):
            return is_deep_tiff(own)
        with _open(own) as header:
            # Pillow reduces 16-bit colour as it decodes; only the tiles' raw mode shows it.
            return header.mode[0] in "IF" or ";16" in str(getattr(header, "tile", ""))

    return _guarded(path, check)


def image_size(path: Path) -> tuple[int, int]:
    """Read the height and width of an image, rotated upright by its EXIF.

    Raises:
        DataError: the file cannot be opened.
    """

    def size(own: Path) -> tuple[int, int]:
        if is_tiff(own):  # some versions of Pillow have turned its size already
            return tiff_size(own)
        with _open(own) as image:
            is_turned = _orientation(image) in TURNED
            return image.size if is_turned else image.size[::-1]

    return _guarded(path, size)


def refuse_special(path: Path) -> None:
    """Refuse a pipe, a device or a socket, which might be waited for without an end.

    Raises:
        DataError: the path is none of a file, a folder and a link to these; or it is gone.
    """
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if stat.S_ISDIR(kind):
        raise DataError(f"cannot read {path}: Is a directory")
    if not stat.S_ISREG(kind):
        raise DataError(f"cannot read {path}: it is no regular file")


def _guarded(path: Path, read: Callable[[Path], T]) -> T:
    """Call a reader, and turn every error of a decoder into one of the file."""
    refuse_special(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of metadata, and of large images
            return read(path)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"cannot read {path}: there is too little memory for it") from error
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, KeyError and more.
    except Exception as error:
        raise DataError(f"cannot read {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    # Of a path, Pillow maps some TIFF files that are turned into memory with their sides swapped.
    with path.open("rb") as stream, Image.open(stream, formats=_formats()) as image:
        bound_pixels(path, image.width, image.height)
        yield image


@cache
def _formats() -> tuple[str, ...]:
    """List those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _decode(path: Path) -> Picture:
    if is_tiff(path) and (values := decode_tiff(path)) is not None:
        return _split_alpha(values)
    with _open(path) as opened:
        opened.load()
        image, kind = _upright(opened), opened.format or ""
        if image.has_transparency_data:
            # `convert` would copy an image that has this mode already.
            rgba = np.asarray(image if image.mode == "RGBA" else image.convert("RGBA"))
            return Picture(rgba[..., :3], rgba[..., 3], kind)
        if image.mode in _DIRECT and image.mode not in {"P", "PA"}:
            return Picture(np.asarray(image), None, kind)
        values = np.asarray(image if image.mode == "I" else image.convert("RGB"))
        return Picture(values, None, kind)


def _decode_rgb(path: Path) -> RGBImage:
    values, alpha, _format = _decode(path)
    colours = _to_uint8(path, values)
    if colours.ndim == 2:
        colours = np.repeat(colours[..., None], 3, axis=2)
    if alpha is not None and (alpha < 255).any():
        colours = _in_bands(_over_white, colours, alpha[..., None])
    return np.ascontiguousarray(colours)


def _over_white(colours: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[Any]:
    share = alpha.astype(np.uint16)
    return np.asarray((colours * share + 255 * (255 - share) + 127) // 255)


def _in_bands(
    convert: Callable[..., NDArray[Any]], values: NDArray[Any], *others: NDArray[Any]
) -> NDArray[np.uint8]:
    """Convert arrays (H, ...) to 8 bits in bands of rows, which bounds the memory in between."""
    converted = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _BAND):
        rows = slice(start, start + _BAND)
        converted[rows] = convert(values[rows], *(other[rows] for other in others))
    return converted


def _split_alpha(values: NDArray[Any]) -> Picture:
    """Take the fourth (or second) channel of a picture for its opacity."""
    if values.ndim == 3 and values.shape[2] in {2, 4}:
        alpha = values[..., -1]
        if alpha.dtype == np.uint16:
            alpha = (alpha >> 8).astype(np.uint8)
        colours = values[..., :-1]
        colours = colours[..., 0] if colours.shape[2] == 1 else colours
        return Picture(colours, np.asarray(alpha, np.uint8))
    return Picture(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values, None)


def _orientation(image: Image.Image) -> int:
    """Read the orientation; broken metadata is no broken picture."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - the parsers of EXIF raise errors of every kind
        return 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - as above
        return image


def _to_uint8(path: Path, values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale values (H, W) or (H, W, 3) to 8 bits by what their type says about white.

    Raises:
        DataError: it does not say which value is white.
    """
    if values.ndim == 3 and values.shape[2] != 3:
        raise DataError(
            f"cannot read {path}: it has {values.shape[2]} channels; 1, 3 or 4 are read"
        )
    if values.dtype == np.bool_:
        return np.asarray(values, np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return values
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if np.isnan(low):
            raise DataError(f"cannot read {path}: it holds values that are not numbers")
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"cannot read {path}: it holds floats from {low:g} to {high:g}; 0 to 1 are read"
            )
        return _in_bands(lambda band: np.rint(band.astype(np.float32) * np.float32(255)), values)
    if low < 0 or high > 65535:
        raise DataError(
            f"cannot read {path}: it holds integers from {low} to {high}; 0 to 65535 are read"
        )
    # (x * 255 + 32767) // 65535 = rint(x * 255 / 65535), in integers of 32 bits.
    return _in_bands(lambda band: (band.astype(np.uint32) * 255 + 32767) // 65535, values)
