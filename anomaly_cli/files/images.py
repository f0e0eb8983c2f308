"""Finding and writing of image files, and arrays as images."""

import glob
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_cli.errors import DataError, ImageTypeError, ImageValueError
from anomaly_cli.files.atomic import write_bytes
from anomaly_cli.files.png import encode_png

IMAGE_SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"),
        *(".gif", ".jp2", ".avif", ".tga"),
    }
)
_LONGEST = 240  # bytes of a name without its suffix; most disks allow 255 with it
_EXPECTED = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))

MANIFEST_FILE = "manifest.jsonl"  # of `localize`, beside its results
SHARD_MANIFESTS = "manifest.*-of-*.jsonl"  # of the shards of a run, until they are merged

RGBImage = NDArray[np.uint8]  # (H, W, 3)
Mask = NDArray[np.bool_]  # (H, W)
AnomalyMap = NDArray[np.float32]  # (H, W)
ColourRange = tuple[float, float]  # map values at the two ends of the colour bar


class ImageFile(NamedTuple):
    """Image file and its place in the tree of folders that outputs mirror."""

    path: Path
    relative: Path  # path from the deepest folder that holds everything the user named


def is_image(path: Path) -> bool:
    """Return whether the name is that of an image, and not of a hidden file (macOS: `._x.png`)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def is_manifest(name: str) -> bool:
    """Return whether a file of this name holds results of `localize`, or of one of its shards."""
    return name == MANIFEST_FILE or fnmatchcase(name, SHARD_MANIFESTS)


def list_folder(folder: Path) -> list[Path]:
    """List the images directly in `folder`, sorted by name; none if there is no such folder."""
    return sorted(path for path in folder.glob("*") if is_image(path) and _is_file(path))


def describe_others(paths: Iterable[Path]) -> str:
    """Say which files are not read, because their names are not those of images."""
    kinds = Counter(path.suffix.lower() or "no suffix" for path in paths)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{counted}: no images by their names; read are {_EXPECTED}"


def list_others(folders: Iterable[Path]) -> list[Path]:
    """List the files directly in folders that are not read: no images, and not hidden."""
    return [
        path
        for folder in folders
        for path in sorted(folder.glob("*"))
        if not is_image(path) and not path.name.startswith(".") and path.is_file()
    ]


def _is_file(path: Path) -> bool:
    """Check that a path is no folder, pipe, device or socket; a broken link is named later."""
    return path.is_file() or path.is_symlink()


def find_images(
    inputs: Sequence[str],
    *,
    exclude: Path | None = None,
    on_left_out: Callable[[str], object] = lambda _text: None,
) -> list[ImageFile]:
    """Find the images of files, folders (with subfolders) and globs, each once, sorted by path.

    Links to folders are followed, each folder once. Folders with the results of an earlier run are
    left out: those that hold a manifest. So are files whose names are not those of images.

    Args:
        inputs: paths and globs from the user.
        exclude: a folder to leave out, such as the output folder inside an input folder.
        on_left_out: called with a sentence for each folder of results, and one for all files.

    Raises:
        DataError: an input does not exist or is not an image, or there are no images.
    """
    named = [_resolve(path) for text in inputs for path in _expand(text)]
    root = Path(os.path.commonpath([p if p.is_dir() else p.parent for p in named]))
    banned = exclude.resolve() if exclude else None
    others: list[Path] = []
    found = {
        path
        for item in named
        for path in (_search(item, banned, others, on_left_out) if item.is_dir() else [item])
        if not (banned and path.is_relative_to(banned))
    }
    if others:
        on_left_out(describe_others(others))
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
    """Resolve `..` and links in the folder of a file, so that it has one path; keep its name."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _search(
    folder: Path, banned: Path | None, others: list[Path], on_left_out: Callable[[str], object]
) -> list[Path]:
    """List the images below `folder` that are not hidden or in a hidden folder.

    Other files are added to `others`.
    """
    found: list[Path] = []
    seen = {os.path.realpath(folder)}
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        for entry in sorted(place.iterdir()):
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                if _is_file(entry):
                    (found if is_image(entry) else others).append(entry)
                continue
            real = os.path.realpath(entry)
            if real in seen or (banned and Path(real).is_relative_to(banned)):
                continue  # a link to what was searched already, or in a circle
            seen.add(real)
            if (entry / MANIFEST_FILE).is_file() or any(entry.glob(SHARD_MANIFESTS)):
                on_left_out(f"{entry} holds results of an earlier run")
            else:
                waiting.append(entry)
    return found


def _scale_to_uint8(values: NDArray[np.floating], white: float) -> NDArray[np.uint8]:
    """Scale values so that `white` becomes 255."""
    return np.asarray(np.clip(np.rint(values * (255.0 / white)), 0, 255), np.uint8)


def is_monochrome(image: RGBImage) -> bool:
    """Check whether the three channels are equal everywhere."""
    if not _has_equal_channels(image[::8, ::8]):
        return False  # a few pixels suffice for most colour images
    return _has_equal_channels(image)


def _has_equal_channels(image: RGBImage) -> bool:
    red, green, blue = (image[..., channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(green, blue)


def image_from_array(array: NDArray[Any]) -> RGBImage:
    """Convert an array to an image (H, W, 3) uint8, by the same rules as `read_image`.

    Args:
        array: shape (H, W), (H, W, 1) or (H, W, 3), grey or RGB; uint8, uint16 with white at 65535,
            or float with white at 1.

    Raises:
        ImageTypeError: the array is not of one of these types.
        ImageValueError: the array has another shape, no pixel, or floats outside [0, 1].
    """
    if not isinstance(array, np.ndarray):
        raise ImageTypeError(f"an image must be an array or a path, got {type(array).__name__}")
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3}):
        raise ImageValueError(f"an image must be of shape (H, W) or (H, W, 3), got {array.shape}")
    if array.size == 0:
        raise ImageValueError(f"an image must have at least one pixel, got {array.shape}")
    if array.dtype == np.uint16:
        array = _scale_to_uint8(array.astype(np.float64), 65535.0)
    elif np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # false for NaN as well
            raise ImageValueError("an image of floats must hold values from 0 to 1")
        array = _scale_to_uint8(array.astype(np.float64), 1.0)
    elif array.dtype != np.uint8:
        raise ImageTypeError(f"an image must be uint8, uint16 or float, got {array.dtype}")
    planes = array[..., None] if array.ndim == 2 else array
    return np.ascontiguousarray(np.broadcast_to(planes, (*planes.shape[:2], 3)))


def write_png(path: Path, array: NDArray[Any], *, palette: NDArray[np.uint8] | None = None) -> None:
    """Write (H, W, 3) uint8 as RGB, (H, W) uint8 as grey, (H, W) bool as 0 and 255.

    Args:
        path: the file to write.
        array: the picture.
        palette: (256, 3) uint8 colours; then `array` (H, W) uint8 holds indices of colours.

    Raises:
        OutputError: the file cannot be written.
    """
    values = array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array
    # A picture can be drawn again, and there are thousands of them.
    write_bytes(path, encode_png(values, palette), is_durable=False)


def write_tiff(path: Path, anomaly_map: AnomalyMap) -> None:
    """Write (H, W) float32 as a one-channel 32-bit float TIFF, uncompressed.

    Raises:
        OutputError: the file cannot be written.
    """
    buffer = io.BytesIO()
    Image.fromarray(anomaly_map).save(buffer, "TIFF")
    write_bytes(path, buffer.getvalue(), is_durable=False)


def output_stems(files: Iterable[ImageFile]) -> list[Path]:
    """Choose a different relative path without suffix for each image.

    `a/x.png` becomes `a/x`. If `x.png` and `x.jpg` are in one folder, both keep their suffix
    (`a/x.png`, `a/x.jpg`). A name that leaves no room for a suffix is cut, and ends in its hash.

    Raises:
        DataError: two images would still have the same path.
    """
    relatives = [file.relative for file in files]
    counts = Counter(map(_stem_key, relatives))
    stems = [_shorten(r if counts[_stem_key(r)] > 1 else r.with_suffix("")) for r in relatives]
    refuse_same(stems, relatives)
    return stems


def refuse_same(stems: Sequence[Path], images: Sequence[Path]) -> None:
    """Refuse two images whose results would be written to one file.

    Raises:
        DataError: there are two; the message names them.
    """
    seen: dict[str, Path] = {}
    for stem, image in zip(stems, images, strict=True):
        key = stem.as_posix().casefold()  # macOS and Windows ignore case
        if key in seen:
            raise DataError(f"{seen[key]} and {image} would be written to the same file")
        seen[key] = image


def _shorten(stem: Path) -> Path:
    """Cut a name of more than `_LONGEST` bytes, so that a suffix fits behind it."""
    name = os.fsencode(stem.name)
    if len(name) <= _LONGEST:
        return stem
    mark = f"~{hashlib.sha256(name).hexdigest()[:8]}"
    kept = name[: _LONGEST - len(mark)].decode("utf-8", "ignore")
    return stem.with_name(kept + mark)


def _stem_key(relative: Path) -> str:
    return relative.with_suffix("").as_posix().casefold()  # macOS and Windows ignore case
