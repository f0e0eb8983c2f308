"""Pictures of every format that is read, as images and as masks."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from anomaly_cli.data.checks.inspection import grey_thumbnail
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import is_monochrome
from anomaly_cli.files.read import count_pages, image_size, is_deep, read_image, read_mask
from anomaly_cli.files.resize import resize_image, resize_mask
from fuzz.mutation import mutate_bytes
from fuzz.target import BrokenRuleError, DamagedFile, Target

_GENERATOR = np.random.default_rng(0)
COLOUR = _GENERATOR.integers(0, 256, (20, 24, 3), np.uint8)
GREY = COLOUR[..., 0]
DEEP = GREY.astype(np.uint16) * 257
RAMP = np.linspace(0, 1, GREY.size, dtype=np.float32).reshape(GREY.shape)
_PNG = b"\x89PNG\r\n\x1a\n"
_NETWORK_SIDES = (64, 320)  # pixels, of the networks that take a picture


def saved(array: NDArray[Any], kind: str, mode: str | None = None, **options: Any) -> bytes:
    """Encode an array with Pillow, in another mode if one is named."""
    image = Image.fromarray(array)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


def saved_tiff(array: NDArray[Any], **options: Any) -> bytes:
    """Encode an array with tifffile."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    return exif


def _saved_pngs() -> list[bytes]:
    deep = cv2.imencode(".png", COLOUR.astype(np.uint16) * 257)[1].tobytes()
    frames = [Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    return [
        *(saved(COLOUR, "PNG", mode) for mode in (None, "RGBA", "L", "LA", "P", "1")),
        *(saved(DEEP, "PNG"), deep, stream.getvalue(), saved(COLOUR, "PNG", exif=_turned())),
        saved(COLOUR, "PNG", "P", transparency=3),
        saved(GREY, "PNG", transparency=5),
    ]


def _saved_tiffs() -> list[bytes]:
    planes = np.ascontiguousarray(COLOUR.transpose(2, 0, 1))
    tiles = np.tile(COLOUR, (2, 2, 1))
    kinds = (np.int8, np.int16, np.int32, np.uint32, np.float64)
    return [
        *(saved(COLOUR, "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits")),
        *(saved(COLOUR, "TIFF", mode) for mode in ("1", "P", "CMYK", "RGBA", "LAB")),
        *(saved(COLOUR, "TIFF", exif=_turned()), saved(GREY, "TIFF", "1", compression="group4")),
        *(saved_tiff(DEEP), saved_tiff(RAMP), saved_tiff(RAMP.astype(np.float16))),
        *(saved_tiff((RAMP * 100).astype(kind)) for kind in kinds),
        saved_tiff(planes, photometric="rgb", planarconfig="separate"),
        saved_tiff(planes.astype(np.uint16), photometric="rgb", planarconfig="separate"),
        saved_tiff(tiles, photometric="rgb", tile=(16, 16), compression="zlib"),
        saved_tiff(
            tiles.astype(np.uint16),
            photometric="rgb",
            tile=(16, 16),
            predictor=True,
            compression="zlib",
        ),
        saved_tiff(DEEP, photometric="miniswhite", compression="zlib"),
        saved_tiff(DEEP, bigtiff=True),
        saved_tiff(np.stack([DEEP, DEEP]), byteorder=">"),
        saved_tiff(np.dstack([DEEP] * 4), photometric="rgb", extrasamples=["unassalpha"]),
    ]


@cache
def picture_seeds() -> list[bytes]:
    """Encode small pictures in every format, mode and compression that can be written here."""
    clip = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    gif, webp = io.BytesIO(), io.BytesIO()
    clip[0].save(gif, "GIF", save_all=True, append_images=clip[1:], transparency=0)
    clip[0].save(webp, "WEBP", save_all=True, append_images=clip[1:])
    return [
        *_saved_pngs(),
        *_saved_tiffs(),
        *(saved(COLOUR, "JPEG", mode) for mode in (None, "L", "CMYK")),
        *(saved(COLOUR, "JPEG", progressive=True), saved(COLOUR, "JPEG", exif=_turned())),
        *(saved(COLOUR, "BMP", mode) for mode in (None, "L", "P", "1", "RGBA")),
        *(saved(COLOUR, "WEBP", mode, lossless=True) for mode in (None, "RGBA")),
        *(saved(COLOUR, "WEBP", exif=_turned()), webp.getvalue()),
        *(saved(COLOUR, "PPM"), saved(GREY, "PPM"), saved(DEEP, "PPM"), saved(GREY, "PPM", "1")),
        *(
            saved(RAMP, "PPM"),
            b"P3 3 2 255\n" + b"9 8 7 " * 6,
            b"P2 2 2 9\n1 2 3 4\n",
            b"P1 2 1\n01",
        ),
        *(saved(GREY, "GIF"), saved(GREY, "GIF", interlace=True), gif.getvalue()),
        *(saved(COLOUR, "JPEG2000", mode) for mode in (None, "RGBA", "L")),
        *(saved(DEEP, "JPEG2000"), saved(COLOUR, "JPEG2000", no_jp2=True, tile_size=(16, 16))),
        *(saved(COLOUR, "AVIF", mode, speed=10) for mode in (None, "RGBA")),
        *(saved(COLOUR, "TGA", mode) for mode in (None, "RGBA", "L", "LA", "P")),
        *(saved(COLOUR, "TGA", compression="tga_rle"), saved(GREY, "TGA", "1")),
    ]


def draw_picture(random: Random) -> DamagedFile:
    """Draw a damaged picture; the checksums of most PNG files are repaired."""
    seeds = picture_seeds()
    content = mutate_bytes(random.choice(seeds), seeds, random)
    if content.startswith(_PNG) and random.random() < 0.8:
        content = _repair_png(content)
    return DamagedFile(content, ".img")


def _repair_png(content: bytes) -> bytes:
    """Compute the checksums of all chunks anew, as far as their lengths fit."""
    parts, place = [content[:8]], 8
    while place + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, place)
        body = content[place + 4 : place + 8 + size]
        if len(body) < size + 4:
            break
        parts.append(content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + size
    return b"".join([*parts, content[place:]])


def read_as_image(path: Path) -> None:
    """Do what commands do with an image before the network sees it."""
    image = read_image(path)
    try:
        size, _, _ = image_size(path), is_deep(path), count_pages(path)
    except DataError as error:
        raise BrokenRuleError("the image is read, but not its header") from error
    if size != image.shape[:2]:
        raise BrokenRuleError(f"image_size is {size}, the image is {image.shape}")
    is_monochrome(image)
    grey_thumbnail(image)
    for side in _NETWORK_SIDES:
        resize_image(image, side, side)


def read_as_mask(path: Path) -> None:
    """Do what commands do with a mask before its pixels are counted."""
    mask = read_mask(path)
    if mask.ndim != 2 or mask.dtype != bool:
        raise BrokenRuleError(f"a mask is {mask.dtype} of shape {mask.shape}")
    for side in _NETWORK_SIDES:
        resize_mask(mask, side, side)


TARGETS = {
    "images": Target(draw_picture, read_as_image),
    "masks": Target(draw_picture, read_as_mask),
}
