"""The only image-file code: find, read (8/16-bit, grey, alpha, EXIF), resize, write."""

import glob
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from anomaly_cli.errors import DataError
from anomaly_cli.files.atomic import write_bytes

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".gif"}
)
_EXPECTED = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))

RGBImage = NDArray[np.uint8]  # (H, W, 3)
Mask = NDArray[np.bool_]  # (H, W)
AnomalyMap = NDArray[np.float32]  # (H, W)


class ImageFile(NamedTuple):
    """An image on disk and its place in the tree that the outputs mirror."""

    path: Path
    relative: Path  # to the deepest folder that holds everything the user named


def is_image(path: Path) -> bool:
    """Whether the name is that of an image. Hidden files (`._x.png` of macOS) are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_folder(folder: Path) -> list[Path]:
    """Images directly in `folder`, sorted by name; empty if there is no such folder."""
    return sorted(path for path in folder.glob("*") if is_image(path) and not path.is_dir())


def find_images(inputs: Sequence[str], *, exclude: Path | None = None) -> list[ImageFile]:
    """Resolve files, folders (searched to the bottom) and globs into images, each once, sorted.

    Args:
        inputs: what the user typed.
        exclude: a folder to leave out, such as the output folder inside an input folder.

    Raises:
        DataError: an input is not there, is not an image, or holds none.
    """
    named = [_resolve(path) for text in inputs for path in _expand(text)]
    root = Path(os.path.commonpath([p if p.is_dir() else p.parent for p in named]))
    banned = exclude.resolve() if exclude else None
    found = {
        path
        for item in named
        for path in (_search(item) if item.is_dir() else [item])
        if not (banned and path.is_relative_to(banned))
    }
    if not found:
        raise DataError(f"no images under {', '.join(inputs)}; expected {_EXPECTED}")
    return [ImageFile(path, path.relative_to(root)) for path in sorted(found)]


def _expand(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir() or (path.is_file() and is_image(path)):
        return [path]
    if path.is_file():
        raise DataError(f"{text} is not an image; expected {_EXPECTED}")
    matches = sorted(Path(match) for match in glob.glob(text, recursive=True))  # noqa: PTH207 - absolute patterns
    matches = [match for match in matches if match.is_dir() or is_image(match)]
    if not matches:
        raise DataError(f"{text} does not exist and matches no image")
    return matches


def _resolve(path: Path) -> Path:
    """One name for one file: its folder without `..` and links. The name of a link is kept."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _search(folder: Path) -> list[Path]:
    """Images below `folder`, none of them hidden or in a hidden folder."""
    found = [path for path in folder.rglob("*") if is_image(path) and not path.is_dir()]
    return [path for path in found if "/." not in f"/{path.relative_to(folder).as_posix()}"]


def read_image(path: Path) -> RGBImage:
    """Read any image as (H, W, 3) uint8 RGB, upright as its EXIF says.

    Grey is repeated to three channels, 16-bit is scaled by 255/65535 (not cut off), float is
    taken as [0, 1], and transparency is laid over white.

    Raises:
        DataError: the file cannot be opened or decoded to its end.
    """
    with _open(path) as image:
        if image.mode.startswith("I") or image.mode == "F":
            return np.repeat(_deep_to_uint8(path, image)[..., None], 3, axis=2)
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
        return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> Mask:
    """Read a ground-truth mask as (H, W) bool: every value above 0 is anomalous.

    Raises:
        DataError: the file cannot be opened or decoded to its end.
    """
    with _open(path) as image:
        is_grey = len(image.getbands()) == 1 and image.mode != "P"  # 1, 8, 16, 32 bits or float
        values = np.asarray(image if is_grey else image.convert("RGB"))
    marked = values > 0
    return np.asarray(marked.any(axis=2) if marked.ndim == 3 else marked)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image, upright as its EXIF says.

    Raises:
        DataError: the file cannot be opened.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            is_lying = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 swap sides
    except Exception as error:
        raise DataError(f"cannot read {path}: {_reason(error)}") from error
    return (width, height) if is_lying else (height, width)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more.
    except Exception as error:
        raise DataError(f"cannot read {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _deep_to_uint8(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image).astype(np.float64)
    if np.isnan(values).any():
        raise DataError(f"cannot read {path}: it holds values that are not numbers")
    scale = 255.0 if image.mode == "F" else 255.0 / 65535.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def resize_image(image: RGBImage, height: int, width: int) -> RGBImage:
    """Resize to (height, width, 3): area averaging down, bilinear up."""
    if image.shape[:2] == (height, width):
        return image
    is_smaller = height < image.shape[0] or width < image.shape[1]
    interpolation = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def resize_mask(mask: Mask, height: int, width: int) -> Mask:
    """Resize to (height, width) by the nearest pixel.

    Bilinear weights below 1 turn into 0 as bool, and small defects vanish.
    """
    if mask.shape == (height, width):
        return mask
    # INTER_NEAREST_EXACT samples pixel centres; INTER_NEAREST is shifted by half a pixel.
    resized = cv2.resize(
        mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return np.asarray(resized, dtype=bool)


def resize_map(anomaly_map: AnomalyMap, height: int, width: int) -> AnomalyMap:
    """Resize to (height, width) bilinearly, pixel centres aligned."""
    if anomaly_map.shape == (height, width):
        return anomaly_map
    resized = cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)


def write_png(path: Path, array: NDArray[Any], *, palette: NDArray[np.uint8] | None = None) -> None:
    """Write (H, W, 3) uint8 as RGB, (H, W) uint8 as grey, (H, W) bool as 0 and 255.

    Args:
        path: the file to write.
        array: the picture.
        palette: (256, 3) uint8 colours; then `array` (H, W) uint8 holds indices into it.

    Raises:
        OutputError: the file cannot be written.
    """
    image = Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array)
    if palette is not None:
        image.putpalette(palette.tobytes())
    _write(path, image, "PNG", compress_level=1)  # 5 times faster than 6, files a tenth larger


def write_tiff(path: Path, anomaly_map: AnomalyMap) -> None:
    """Write (H, W) float32 as a one-channel 32-bit float TIFF, uncompressed.

    Raises:
        OutputError: the file cannot be written.
    """
    _write(path, Image.fromarray(anomaly_map), "TIFF")


def _write(path: Path, image: Image.Image, kind: str, **options: Any) -> None:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    write_bytes(path, buffer.getvalue())


def output_stems(files: Iterable[ImageFile]) -> list[Path]:
    """One relative path without suffix for each image, none twice.

    `a/x.png` becomes `a/x`; where `x.png` and `x.jpg` lie in one folder both keep their suffix
    (`a/x.png`, `a/x.jpg`).

    Raises:
        DataError: two images would still share a name.
    """
    relatives = [file.relative for file in files]
    counts = Counter(map(_stem_key, relatives))
    stems = [r if counts[_stem_key(r)] > 1 else r.with_suffix("") for r in relatives]
    seen: dict[str, Path] = {}
    for stem, relative in zip(stems, relatives, strict=True):
        key = stem.as_posix().casefold()
        if key in seen:
            raise DataError(f"{seen[key]} and {relative} would be written to the same file")
        seen[key] = relative
    return stems


def _stem_key(relative: Path) -> str:
    return relative.with_suffix("").as_posix().casefold()  # macOS and Windows ignore case


ColourRange = tuple[float, float]  # map values at the two ends of the colour bar
