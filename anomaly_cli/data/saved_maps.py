"""Anomaly maps on disk, saved by any tool, and the test images they belong to.

The layout is that of MVTec's own evaluation, `<maps>/<category>/test/<defect type>/<image>.tiff`.
`test/` may be missing, and so may the category if only one is evaluated.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.mvtec import test_samples
from anomaly_cli.data.samples import GOOD, Sample
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import AnomalyMap, list_folder
from anomaly_cli.files.limits import bound_pixels
from anomaly_cli.files.read import read_values, refuse_special

_MOST_LOST = 2  # different values of a map for each that is left after rounding
MAP_SUFFIXES = (".tiff", ".tif", ".npy", ".png")
_EXPECTED = "expected <maps>/<category>/test/<defect type>/<image>.tiff (or .npy, or 16-bit .png)"


class MappedSplit(NamedTuple):
    """Test split of one category, with the file of each anomaly map."""

    samples: list[Sample]
    paths: list[Path]  # files of the maps, in the order of the samples


def find_mapped_categories(data: Path, maps: Path, category: str) -> list[str]:
    """List the categories that have both a ground truth and maps, sorted.

    Args:
        data: folder of the ground truth.
        maps: folder of the maps.
        category: a name, or "all"; a category given by name only needs a ground truth here.

    Raises:
        DataError: a folder does not exist, or no category is found.
    """
    for folder in (data, maps):
        if not folder.is_dir():
            raise DataError(f"{folder} does not exist")
    known = sorted(path.name for path in data.iterdir() if _has_truth(path))
    wanted = known if category == "all" else [name for name in known if name == category]
    if category == "all":
        wanted = [name for name in known if (maps / name).is_dir()]
        if not wanted and len(known) == 1 and _map_folder(maps, known[0]):
            wanted = known
    if not wanted:
        names = ", ".join(known) or "none"
        raise DataError(
            f"no category has both maps under {maps} and a ground truth under {data} "
            f"(categories with one: {names}); {_EXPECTED}"
        )
    return wanted


def _has_truth(category: Path) -> bool:
    return (category / "test").is_dir() or (category / "ground_truth").is_dir()


def _map_folder(maps: Path, category: str) -> Path | None:
    """Find the folder whose subfolders, one for each defect type, contain maps."""
    for folder in (maps / category / "test", maps / category, maps / "test", maps):
        if folder.is_dir() and any(_files_of(kind) for kind in folder.iterdir()):
            return folder
    return None


def _files_of(folder: Path) -> dict[str, Path]:
    """Index the maps directly in a folder by the stem of their image; empty if it is no folder.

    Raises:
        DataError: two maps belong to one image.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in MAP_SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise DataError(
                    f"{found[path.stem]} and {path} are both the map of one image; keep one of them"
                )
            found[path.stem] = path
    return found


def mapped_split(data: Path, maps: Path, category: str, *, with_good: bool) -> MappedSplit:
    """Find the map of each test image of a category, sorted by defect type and name.

    If `<category>/test` is missing, the masks of the ground truth name the anomalous images, and
    the maps under `good` name the normal ones.

    Args:
        data: folder of the ground truth.
        maps: folder of the maps.
        category: name of the category.
        with_good: whether normal images are included.

    Raises:
        DataError: there are no maps, an image has no map, or a map has no image.
    """
    folder = _map_folder(maps, category)
    if folder is None:
        raise DataError(f"no maps of {category} under {maps}; {_EXPECTED}")
    found = {kind.name: _files_of(kind) for kind in sorted(folder.iterdir()) if kind.is_dir()}
    has_images = (data / category / "test").is_dir()
    samples = test_samples(data, category) if has_images else _from_masks(data / category, found)
    samples = [s for s in samples if with_good or s.defect_type != GOOD]
    paths = [_map_of(sample, found, folder) for sample in samples]
    _refuse_strangers(samples, found, with_good=with_good, category=category)
    return MappedSplit(samples, paths)


def _from_masks(category: Path, found: dict[str, dict[str, Path]]) -> list[Sample]:
    masks = sorted(category.glob("ground_truth/*/*"))
    masks = [mask for mask in masks if mask.parent.name != GOOD]  # needless, not wrong
    samples = [
        Sample(
            category / "test" / mask.parent.name / f"{mask.stem.removesuffix('_mask')}.png",
            mask.parent.name,
            mask,
        )
        for mask in masks
        if mask in list_folder(mask.parent)
    ]
    good = [
        Sample(category / "test" / GOOD / f"{name}.png", GOOD, None) for name in found.get(GOOD, {})
    ]
    return sorted([*samples, *good], key=lambda sample: (sample.defect_type, sample.path.name))


def _map_of(sample: Sample, found: dict[str, dict[str, Path]], folder: Path) -> Path:
    path = found.get(sample.defect_type, {}).get(sample.path.stem)
    if path is None:
        expected = folder / sample.defect_type / f"{sample.path.stem}.tiff"
        raise DataError(f"{sample.path} has no map; expected {expected} (or .npy, or 16-bit .png)")
    return path


def _refuse_strangers(
    samples: Sequence[Sample],
    found: dict[str, dict[str, Path]],
    *,
    with_good: bool,
    category: str,
) -> None:
    known = {(sample.defect_type, sample.path.stem) for sample in samples}
    for defect_type, files in found.items():
        for name, path in files.items():
            is_left_out = defect_type == GOOD and not with_good
            if not is_left_out and (defect_type, name) not in known:
                raise DataError(f"{path} belongs to no test image of {category}")


def read_map(path: Path) -> AnomalyMap:
    """Read a one-channel anomaly map from TIFF, NPY or 16-bit PNG as (H, W) float32.

    Raises:
        DataError: the file cannot be decoded, has several channels or 8-bit values, or holds values
            that float32 cannot tell apart.
    """
    values = _read_array(path) if path.suffix.lower() == ".npy" else read_values(path)
    values = values.squeeze()  # other tools write (1, H, W) or (H, W, 1)
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise DataError(
            f"{path} holds {values.dtype} of shape {values.shape}; a map is one number per pixel"
        )
    if values.dtype.itemsize == 1:
        raise DataError(f"{path} is an 8-bit picture; a map has 16 bits or more, or is float")
    anomaly_map = np.ascontiguousarray(values, dtype=np.float32)
    if values.dtype.itemsize >= 4 and values.dtype != np.float32:
        _refuse_lost_values(path, values, anomaly_map)
    return anomaly_map


def _read_array(path: Path) -> NDArray[Any]:
    """Read a .npy file; its size is bounded before anything is allocated."""
    refuse_special(path)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    # numpy raises OSError, ValueError, EOFError, SyntaxError, OverflowError and others.
    except Exception as error:
        raise DataError(f"cannot read {path}: {error or type(error).__name__}") from error
    if not isinstance(values, np.ndarray):
        raise DataError(f"cannot read {path}: it is an archive of arrays (.npz)")
    bound_pixels(path, values.size, 1)
    return np.array(values)


def _refuse_lost_values(path: Path, values: NDArray[Any], rounded: AnomalyMap) -> None:
    """Refuse a map of which float32 would keep fewer than half of the different values."""
    if np.array_equal(values, rounded):
        return
    found, kept = np.unique(values).size, np.unique(rounded).size
    if kept < found / _MOST_LOST:
        raise DataError(
            f"{path} holds {found:,} different values, of which float32 tells {kept:,} apart; "
            f"save the map on another scale, such as its logarithm or its distance from 1"
        )
