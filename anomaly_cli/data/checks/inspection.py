"""Contents of the files of a category, each decoded once.

A file that cannot be decoded is recorded, and does not stop the inspection.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data import folder as folder_data
from anomaly_cli.data.mvtec import list_masks
from anomaly_cli.data.samples import GOOD
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import RGBImage, is_image, is_monochrome, list_folder, list_others
from anomaly_cli.files.read import count_pages, is_deep, read_grey_mask, read_image

THUMBNAIL_SIDE = 64  # pixels

T = TypeVar("T")


class CategoryFiles(NamedTuple):
    """Files of a category, by the folder they lie in."""

    category: str
    folder: Path
    train: list[Path]
    test: Mapping[str, list[Path]]  # by defect type
    masks: Mapping[str, Mapping[str, Path]]  # by defect type and stem
    stray: list[Path]  # images in none of these folders, which no command reads
    foreign: list[Path]  # files beside the images that are not images
    same_masks: Sequence[tuple[Path, Path]] = ()  # two masks of one image
    needs_masks: bool = True  # whether each anomalous image needs a mask

    @property
    def images(self) -> list[Path]:
        """All images, those of `train` first."""
        return [*self.train, *(path for paths in self.test.values() for path in paths)]

    @property
    def all_masks(self) -> list[Path]:
        """All masks, including those without an image and those of normal images."""
        return [path for masks in self.masks.values() for path in masks.values()]

    @property
    def total(self) -> int:
        """Number of files to decode."""
        return len(self.images) + len(self.all_masks)


class ImageFacts(NamedTuple):
    """Facts about an image as the network will see it (8-bit RGB, upright)."""

    path: Path
    width: int
    height: int
    is_grey: bool  # all channels are equal
    is_deep: bool  # the file has more than 8 bits per channel
    darkest: int  # of 255
    brightest: int
    digest: str  # SHA-256 of the pixels
    thumbnail: NDArray[np.float32]  # (64, 64) grey, [0, 255]
    pages: int = 1  # or frames, of which the first is read


class MaskFacts(NamedTuple):
    """Facts about a mask."""

    path: Path
    width: int
    height: int
    marked: int  # number of anomalous pixels
    levels: int  # number of different values, black among them
    is_lossy: bool  # the format keeps no exact values


class Unreadable(NamedTuple):
    """A file that cannot be decoded to its end."""

    path: Path
    reason: str


Facts = ImageFacts | MaskFacts | Unreadable


class CategoryFacts(NamedTuple):
    """Files of a category, and the facts about each."""

    files: CategoryFiles
    images: Mapping[Path, ImageFacts]  # those that can be read
    masks: Mapping[Path, MaskFacts]
    unreadable: list[Unreadable]


def list_category(folder: Path) -> CategoryFiles:
    """List the images and masks of a category in the MVTec AD layout; none of them is opened."""
    train = folder / "train" / GOOD
    tests, truths = _subfolders(folder / "test"), _subfolders(folder / "ground_truth")
    test = {kind.name: list_folder(kind) for kind in tests}
    masks, same = _index_masks(truths)
    files = CategoryFiles(folder.name, folder, list_folder(train), test, masks, [], [], same)
    return _with_needless_files(files, [train, *tests, *truths])


def list_own_images(root: Path, category: str) -> CategoryFiles:
    """List the user's own images and masks in the layout of `--dataset folder`.

    Args:
        root: a folder, or a list of images.
        category: name for the images.

    Raises:
        DataError: a list cannot be read, or names a file that is not an image.
    """
    train, _place = folder_data.normal_images(root)
    test: dict[str, list[Path]] = {}
    for sample in folder_data.labelled_samples(root):
        if sample.path not in train:  # without `test`, images in `good` may be
            test.setdefault(sample.defect_type, []).append(sample.path)
    homes = {path.parent.parent for paths in test.values() for path in paths}
    homes = {home.parent if home.name == folder_data.TEST else home for home in homes} or {root}
    truths = sorted(kind for home in homes for kind in _subfolders(home / folder_data.TRUTH))
    masks, same = _index_masks(truths)
    place = root if root.is_dir() else root.parent
    files = CategoryFiles(
        category, place, train, test, masks, [], [], same, needs_masks=any(masks.values())
    )
    if place != root:
        return files  # a list leaves out files on purpose
    places = {path.parent for path in files.images}
    return _with_needless_files(files, [*sorted(places), *truths])


def _index_masks(
    folders: Iterable[Path],
) -> tuple[dict[str, dict[str, Path]], list[tuple[Path, Path]]]:
    """Index masks by defect type and stem, and list those whose stem another one has."""
    same: list[tuple[Path, Path]] = []
    found = {
        folder.name: list_masks(folder, on_same=lambda *pair: same.append(pair))
        for folder in folders
    }
    return found, same


def _with_needless_files(files: CategoryFiles, places: Sequence[Path]) -> CategoryFiles:
    """Add the files in the folder, and in `places`, that no command reads."""
    known = {*files.images, *files.all_masks, *(path for pair in files.same_masks for path in pair)}
    found = _visible_files(files.folder)
    return files._replace(
        stray=[path for path in found if is_image(path) and path not in known],
        foreign=list_others(places),
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir())


def _visible_files(folder: Path) -> list[Path]:
    """List the files below `folder` that are neither hidden nor in a hidden folder, sorted."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in found if "/." not in f"/{path.relative_to(folder).as_posix()}")


def inspect_files(files: CategoryFiles, *, workers: int) -> Iterator[Facts]:
    """Decode each image and mask once, in `workers` threads, and yield their facts in order."""
    executor = ThreadPoolExecutor(workers)
    try:
        yield from executor.map(inspect_image, files.images)
        yield from executor.map(inspect_mask, files.all_masks)
    finally:
        executor.shutdown(cancel_futures=True)


def collect(files: CategoryFiles, facts: Iterable[Facts]) -> CategoryFacts:
    """Sort the facts that `inspect_files` yields by their type."""
    found = list(facts)
    return CategoryFacts(
        files,
        {item.path: item for item in found if isinstance(item, ImageFacts)},
        {item.path: item for item in found if isinstance(item, MaskFacts)},
        [item for item in found if isinstance(item, Unreadable)],
    )


def inspect_image(path: Path) -> ImageFacts | Unreadable:
    """Decode an image to its end and collect the facts about it."""
    return _or_unreadable(path, _describe_image)


def inspect_mask(path: Path) -> MaskFacts | Unreadable:
    """Decode a mask to its end and collect the facts about it."""
    return _or_unreadable(path, _describe_mask)


def _or_unreadable(path: Path, describe: Callable[[Path], T]) -> T | Unreadable:
    try:
        return describe(path)
    except DataError as error:
        return Unreadable(path, str(error).removeprefix(f"cannot read {path}: "))


def _describe_image(path: Path) -> ImageFacts:
    image = read_image(path)
    height, width = image.shape[:2]
    return ImageFacts(
        path,
        width,
        height,
        is_grey=is_monochrome(image),
        is_deep=is_deep(path),
        darkest=int(image.min()),
        brightest=int(image.max()),
        digest=hashlib.sha256(f"{width} {height} ".encode() + image.tobytes()).hexdigest(),
        thumbnail=grey_thumbnail(image),
        pages=count_pages(path),
    )


def grey_thumbnail(image: RGBImage) -> NDArray[np.float32]:
    """Shrink an image (H, W, 3) to a grey thumbnail (64, 64) in [0, 255]."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _describe_mask(path: Path) -> MaskFacts:
    found = read_grey_mask(path)
    height, width = found.mask.shape
    return MaskFacts(path, width, height, int(found.mask.sum()), found.levels, found.is_lossy)
