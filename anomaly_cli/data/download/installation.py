"""Fetched files -> the data set at its place: whole, or not at all."""

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

from anomaly_cli.data.download.archives import decompress, unpack
from anomaly_cli.data.download.checksums import has_checksum
from anomaly_cli.data.download.sources import RemoteFile, Source
from anomaly_cli.errors import DataError, OutputError
from anomaly_cli.files.atomic import PARTIAL


def is_installed(source: Source, files: tuple[RemoteFile, ...], target: Path) -> bool:
    """Whether the whole data set is at its place.

    Raises:
        OutputError: something else is there.
    """
    if source.kind == "file":
        is_there = target.is_file() and has_checksum(target, files[0].checksum)
    else:
        is_there = not _missing(source, target)
    is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not (is_there or is_free):
        raise OutputError(
            f"{target} holds something else, or a part of the data set; choose another --output "
            "or add --overwrite"
        )
    return is_there


def install(
    source: Source, paths: list[Path], target: Path
) -> Generator[tuple[Path, int], None, None]:
    """Make the folder or file `target` from the files that were fetched.

    It is filled beside its place and renamed. Where a folder is there already, files of the same
    name are replaced and the others stay.

    Args:
        source: says how.
        paths: one of each file of the source, in their order; they stay, except a file that is
            `target` itself.
        target: the place.

    Yields:
        The archive at work, and how many of its bytes have been unpacked.

    Raises:
        DataError: an archive is damaged, unsafe, or holds something else.
        OutputError: the place cannot be written to.
    """
    if source.kind == "file":
        _move(paths[0], target)
        return
    staging = target.with_name(target.name + PARTIAL)
    shutil.rmtree(staging, ignore_errors=True)  # left by a process that was killed
    try:
        yield from _fill(source, paths, staging)
        missing = _missing(source, staging)
        if missing:
            raise DataError(f"{paths[0].name} is no whole {source.title}: it has no {missing[0]}")
        _move(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _missing(source: Source, folder: Path) -> list[str]:
    return [pattern for pattern in source.expected if next(folder.glob(pattern), None) is None]


def _fill(source: Source, paths: list[Path], folder: Path) -> Iterator[tuple[Path, int]]:
    for position, path in enumerate(paths):
        if source.kind == "archive":
            for read in unpack(path, folder):
                yield path, read
        else:
            decompress(path, folder / source.expected[position])
            yield path, path.stat().st_size


def _move(path: Path, target: Path) -> None:
    """Rename; into a folder that holds something, file by file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.is_dir() and any(target.iterdir())):
            path.replace(target)
            return
        for file in sorted(path.rglob("*")):
            if file.is_symlink() or not file.is_dir():
                place = target / file.relative_to(path)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
