"""Installation of downloaded files as a data set, complete or not at all."""

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

from anomaly_cli.data.download.archives import decompress, unpack
from anomaly_cli.data.download.checksums import has_checksum
from anomaly_cli.data.download.sources import RemoteFile, Source
from anomaly_cli.errors import DataError, OutputError
from anomaly_cli.files.atomic import PARTIAL


def is_installed(source: Source, files: tuple[RemoteFile, ...], target: Path) -> bool:
    """Check whether the complete data set is at its place.

    Raises:
        OutputError: `target` contains something else, or only a part of the data set.
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
    """Make the folder or file `target` from the downloaded files.

    A folder is filled beside `target` and then renamed. If `target` exists already, files of the
    same name are replaced and the others stay.

    Args:
        source: description of the data set.
        paths: the downloaded files, in the order of the files of the source. Archives stay; a
            single file that becomes `target` is moved.
        target: folder or file to make.

    Yields:
        The current archive, and how many of its bytes have been unpacked.

    Raises:
        DataError: an archive is damaged, unsafe, or lacks an expected file.
        OutputError: `target` cannot be written.
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
    """Rename `path` to `target`, or move file by file into a folder that is not empty."""
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
