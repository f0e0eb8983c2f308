"""TIFF files that Pillow decodes wrongly or not at all, and their headers."""

import logging
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from anomaly_cli.errors import DataError
from anomaly_cli.files.limits import Limits, bound_pixels

ORIENTATION = 0x0112  # EXIF tag
TURNED = range(5, 9)  # EXIF orientations that swap the sides
MOST_PAGES = 100
_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_BYTES = 8  # of a pixel of the largest picture, such as 16-bit RGBA

# It tells every tag of a damaged file on stderr, unless a program wants to know.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def is_tiff(path: Path) -> bool:
    """Check the first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(4) in _MARKS


def count_tiff_pages(path: Path) -> int:
    """Count the pages that can be found, of the first `MOST_PAGES`; smaller copies do not count."""
    pages = 0
    with tifffile.TiffFile(path) as file, suppress(Exception):  # the way to the next is damaged
        for page in islice(file.pages, MOST_PAGES):  # a damaged file may lead in a circle
            # A page of which tifffile reads the place alone is as large as the first one.
            pages += not getattr(page, "is_reduced", False)
    return max(pages, 1)


def is_deep_tiff(path: Path) -> bool:
    """Check whether the first page has more than 8 bits per channel."""
    with tifffile.TiffFile(path) as file:
        return bool(_first_page(path, file).bitspersample > 8)


def tiff_size(path: Path) -> tuple[int, int]:
    """Read the height and width of the first page, turned upright."""
    with tifffile.TiffFile(path) as file:
        page = _first_page(path, file)
        size = (page.imagelength, page.imagewidth)
        return size[::-1] if _orientation(page) in TURNED else size


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


def _orientation(page: tifffile.TiffPage) -> int:
    """Read the orientation; of several numbers the first, as Pillow has it."""
    turned = page.tags.get(ORIENTATION)
    value = 1 if turned is None else turned.value
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 1


def decode_tiff(path: Path) -> NDArray[Any] | None:
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
        turned = _orientation(page)
    return _turn(values, turned)


def _turn(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn values (H, W, ...) upright by an EXIF orientation."""
    if orientation in TURNED:
        values = values.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        values = values[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        values = values[::-1]
    return values
