"""One reader of pictures: it decides what the values of a file mean, for images, masks and maps.

Pillow decodes most files. TIFF files of a kind that it decodes wrongly, or not at all, are decoded
by tifffile. Only the decoders of the formats below are used: others start programs, for example.
"""

import logging
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from anomaly_cli.errors import DataError
from anomaly_cli.files.images import Mask, RGBImage
from anomaly_cli.files.limits import Limits

T = TypeVar("T")

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "JPEG2000", "AVIF", "TGA")
_TURNED = range(5, 9)  # EXIF orientations that swap the sides
_ORIENTATION = 0x0112  # EXIF tag
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BAND = 256  # rows that are converted at once
_MOST_BYTES = 8  # of a pixel of the largest picture, such as 16-bit RGBA
_DIRECT = {"RGB", "RGBA", "L", "LA", "P", "PA", "1", "I;16", "I;16B", "I;16L", "F"}

# It tells every tag of a damaged file on stderr, unless a program wants to know.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class Picture(NamedTuple):
    """Decoded values of a file, upright."""

    values: NDArray[Any]  # (H, W) or (H, W, C): grey, RGB or RGBA, as they are in the file
    alpha: NDArray[np.uint8] | None  # (H, W), 255 is opaque; None: there is none


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

    What is fully transparent is not marked.

    Raises:
        DataError: the file cannot be decoded to its end, is too large, or holds values that are
            not numbers.
    """
    values, alpha = _guarded(path, _decode)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise DataError(f"cannot read {path}: it holds values that are not numbers")
    marked: Mask = np.asarray(values > 0)
    if marked.ndim == 3:
        marked = np.asarray(marked.any(axis=2))
    return marked if alpha is None else np.asarray(marked & (alpha > 0))


def read_values(path: Path) -> NDArray[Any]:
    """Read the values of a picture as they are in the file, (H, W) or (H, W, C).

    Raises:
        DataError: the file cannot be decoded to its end, or is too large.
    """
    return _guarded(path, _decode).values


def is_deep(path: Path) -> bool:
    """Check whether a picture has more than 8 bits per channel; its pixels are not decoded.

    Raises:
        DataError: the file cannot be opened.
    """

    def check(own: Path) -> bool:
        if _is_tiff(own):
            with tifffile.TiffFile(own) as file:
                return bool(_first_page(own, file).bitspersample > 8)
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
        if _is_tiff(own):  # some versions of Pillow have turned its size already
            with tifffile.TiffFile(own) as file:
                page = _first_page(own, file)
                width, height = page.imagewidth, page.imagelength
                is_turned = _tiff_orientation(page) in _TURNED
        else:
            with _open(own) as image:
                width, height = image.size
                is_turned = _orientation(image) in _TURNED
        return (width, height) if is_turned else (height, width)

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


def bound_pixels(path: Path, width: int, height: int) -> None:
    """Refuse a picture of more pixels than are allowed, before any is decoded.

    Raises:
        DataError: it has more.
    """
    if width * height > Limits.max_pixels:
        raise DataError(
            f"cannot read {path}: it has {width} x {height} pixels; --max-pixels allows "
            f"{Limits.max_pixels:,}"
        )


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) in _TIFF_MARKS


def _first_page(path: Path, file: tifffile.TiffFile) -> tifffile.TiffPage:
    """Read the header of the first page of a TIFF file, and bound what is decoded of it.

    Raises:
        DataError: the picture, a tile, or all bytes of a picture of many channels are too large;
            or it is a volume, or has no pixels.
    """
    page = file.pages[0]
    assert isinstance(page, tifffile.TiffPage)  # noqa: S101 - the first one is never a frame
    bound_pixels(path, page.imagewidth, page.imagelength)
    bound_pixels(path, page.tilewidth, page.tilelength)
    if page.imagewidth * page.imagelength == 0:  # Pillow might see another number of a damaged tag
        raise DataError(f"cannot read {path}: it has no pixels")
    if page.imagedepth > 1:
        raise DataError(f"cannot read {path}: it is a volume of {page.imagedepth} pictures")
    if page.nbytes > _MOST_BYTES * Limits.max_pixels:
        raise DataError(
            f"cannot read {path}: it has {page.nbytes:,} bytes of pixels; --max-pixels allows "
            f"{_MOST_BYTES * Limits.max_pixels:,}"
        )
    return page


def _tiff_orientation(page: tifffile.TiffPage) -> int:
    """Read the orientation; of several numbers the first, as Pillow has it."""
    turned = page.tags.get(_ORIENTATION)
    value = 1 if turned is None else turned.value
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 1


def _decode(path: Path) -> Picture:
    if _is_tiff(path) and (values := _decode_tiff(path)) is not None:
        return _split_alpha(values)
    with _open(path) as opened:
        opened.load()
        image = _upright(opened)
        if image.has_transparency_data:
            # `convert` would copy an image that has this mode already.
            rgba = np.asarray(image if image.mode == "RGBA" else image.convert("RGBA"))
            return Picture(rgba[..., :3], rgba[..., 3])
        if image.mode in _DIRECT and image.mode not in {"P", "PA"}:
            return Picture(np.asarray(image), None)
        return Picture(np.asarray(image if image.mode == "I" else image.convert("RGB")), None)


def _decode_rgb(path: Path) -> RGBImage:
    values, alpha = _decode(path)
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


def _decode_tiff(path: Path) -> NDArray[Any] | None:
    """Decode a TIFF file that Pillow would decode wrongly or not at all; None for the others."""
    with tifffile.TiffFile(path) as file:
        page = _first_page(path, file)
        is_integer = page.sampleformat == 1
        is_planar = page.planarconfig == 2 and page.samplesperpixel > 1
        is_known = (
            (is_integer and page.bitspersample in {1, 8})
            or (is_integer and page.bitspersample == 16 and page.photometric != 0)
            or (page.sampleformat == 3 and page.bitspersample == 32)
        )
        if is_known and (page.bitspersample <= 8 or not is_planar):
            return None
        try:
            values = np.asarray(page.asarray())
        except ValueError as error:  # a compression that needs a further package
            raise DataError(
                f"cannot read {path}: this kind of TIFF ({page.bitspersample} bits, "
                f"{tifffile.COMPRESSION(page.compression).name}) is read uncompressed or deflated"
            ) from error
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            values = np.moveaxis(values, 0, -1)
        if values.ndim not in {2, 3} or values.shape[:2] != (page.imagelength, page.imagewidth):
            raise DataError(
                f"cannot read {path}: its pixels have the shape {values.shape}, which is that of "
                f"no picture of {page.imagewidth} x {page.imagelength} pixels"
            )
        if page.photometric == 0:  # white is zero
            values = (1 if page.bitspersample == 1 else np.iinfo(values.dtype).max) - values
        turned = _tiff_orientation(page)
    return _turn(values, turned)


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
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - the parsers of EXIF raise errors of every kind
        return 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - as above
        return image


def _turn(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn values (H, W, ...) upright by an EXIF orientation."""
    if orientation in _TURNED:
        values = values.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        values = values[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        values = values[::-1]
    return values


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
