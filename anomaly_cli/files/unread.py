"""Naming of files and parts of files that are not read."""

from collections.abc import Sequence
from pathlib import Path

from anomaly_cli.errors import DataError
from anomaly_cli.files.images import ImageFile, describe_others, find_images, list_others
from anomaly_cli.files.read import count_pages
from anomaly_cli.progress import Progress


def find_and_tell(
    inputs: Sequence[str], progress: Progress, *, exclude: Path | None = None
) -> list[ImageFile]:
    """Find images as `find_images` does, and tell what is left out or read in part.

    Raises:
        DataError: an input does not exist or is not an image, or there are no images.
    """
    files = find_and_tell_others(inputs, progress, exclude=exclude)
    name_pages([file.path for file in files], progress)
    return files


def find_and_tell_others(
    inputs: Sequence[str], progress: Progress, *, exclude: Path | None = None
) -> list[ImageFile]:
    """Find images as `find_images` does, and tell which files are left out. Opens no image.

    Raises:
        DataError: an input does not exist or is not an image, or there are no images.
    """
    return find_images(
        inputs,
        exclude=exclude,
        on_left_out=lambda text: progress.note(f"left out: {text}"),
    )


def find_remote_and_tell(
    inputs: Sequence[str], progress: Progress, *, exclude: Path | None = None
) -> list[ImageFile]:
    """Find images in a bucket, and tell which objects are left out. Opens no image.

    Raises:
        DataError: an input does not exist, or there are no images.
        StorageError: the storage cannot be used.
    """
    from anomaly_cli.files.remote_images import find_remote_images  # noqa: PLC0415 - needs an extra

    return find_remote_images(
        inputs,
        exclude=exclude,
        on_left_out=lambda text: progress.note(f"left out: {text}"),
    )


def name_pages(paths: Sequence[Path], progress: Progress) -> None:
    """Warn of pictures with several pages or frames, of which the first is read."""
    several = [path for path in paths if _has_more(path)]
    if several:
        progress.warn(
            f"{len(several)} of {len(paths)} images, such as {several[0]}, have several pages or "
            f"frames, of which the first is read"
        )


def name_unread(paths: Sequence[Path], progress: Progress) -> None:
    """Tell of the files beside images that are not read, and of further pages of the images."""
    others = list_others(sorted({path.parent for path in paths if path.is_file()}))
    if others:
        progress.note(f"left out: {describe_others(others)}")
    name_pages(paths, progress)


def _has_more(path: Path) -> bool:
    try:
        return path.is_file() and count_pages(path) > 1
    except DataError:  # its reader names it
        return False
