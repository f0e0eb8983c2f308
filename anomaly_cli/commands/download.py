"""`download`: fetch data sets and weights from their official sources. Does not load torch."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from anomaly_cli.config.data import DownloadConfig
from anomaly_cli.data.download import transfer
from anomaly_cli.data.download.checksums import algorithm, has_checksum
from anomaly_cli.data.download.installation import install, is_installed
from anomaly_cli.data.download.sources import SOURCES, RemoteFile, Source, files_of
from anomaly_cli.errors import ConfigError, DataError, OutputError
from anomaly_cli.files.atomic import hash_file
from anomaly_cli.files.numbers import one_line, size_text
from anomaly_cli.progress import SILENT, Progress

PART = ".part"


class FetchedFile(NamedTuple):
    """One downloaded file."""

    name: str
    size: int  # bytes
    sha256: str
    checked: str  # MD5 or SHA-256, whichever was compared; empty if neither


class Download(NamedTuple):
    """One data set, or the weights, on disk."""

    name: str
    path: Path
    files: tuple[FetchedFile, ...]  # empty if it was there already
    next_command: str  # empty if no command reads it


def run(config: DownloadConfig, progress: Progress = SILENT) -> tuple[Download, ...]:
    """Fetch, verify and unpack each data set that is not there yet.

    Raises:
        ConfigError: the licences were not accepted; the message names them.
        DataError: a file cannot be fetched, or is not what it should be.
        OutputError: the disk is full or cannot be written to, or something else is in the way.
    """
    names = tuple(dict.fromkeys(config.names))
    files = {name: files_of(config, name) for name in names}
    if not config.accept_licence:
        licences = [f"{name}: {SOURCES[name].licence} ({SOURCES[name].terms})" for name in names]
        raise ConfigError(
            f"nothing was fetched: add --accept-licence to accept {'; '.join(licences)}"
        )
    return tuple(_download(config, name, files[name], progress) for name in names)


def to_json(downloads: tuple[Download, ...]) -> dict[str, Any]:
    """Convert the results to plain JSON values, with the SHA-256 of every downloaded file."""
    return {
        "downloads": [
            {
                "name": download.name,
                "path": str(download.path),
                "files": [file._asdict() for file in download.files],
                "next_command": download.next_command,
            }
            for download in downloads
        ]
    }


def _download(
    config: DownloadConfig, name: str, files: tuple[RemoteFile, ...], progress: Progress
) -> Download:
    source = SOURCES[name]
    target = config.output / source.target
    command = source.next_command.format(output=quote(str(config.output)))
    if not config.overwrite and is_installed(source, files, target):
        progress.note(f"{name}: {target} is already complete; kept")
        return Download(name, target, (), command)
    progress.note(f"{name}: {source.title}; licence: {source.licence}")
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {config.output}: {error.strerror or error}") from error
    parts = [config.output / f"{file.name}{PART}" for file in files]
    with _parts_kept(parts, progress):
        paths = [_obtain(config, source, file, progress) for file in files]
        fetched = tuple(_verify(file, path) for file, path in zip(files, paths, strict=True))
        _install(source, paths, target, progress)
    for part in parts:
        if config.keep_archive and part.is_file():
            transfer.release(part, part.with_suffix(""))
        transfer.discard(part)
    return Download(name, target, fetched, command)


def _obtain(config: DownloadConfig, source: Source, file: RemoteFile, progress: Progress) -> Path:
    """Fetch a file unless its archive was kept earlier, and return its path."""
    archive = config.output / file.name
    is_archive = source.kind != "file" and archive.is_file()
    if is_archive and file.checksum and has_checksum(archive, file.checksum):
        progress.note(f"{archive} has the expected checksum; not fetched again")
        return archive
    part = archive.with_name(archive.name + PART)

    def reserve(missing: int, size: int) -> None:
        _check_space(config.output, file.name, missing, int(size * source.expansion))

    with (
        progress.bar(file.name, unit="bytes") as bar,
        closing(transfer.fetch(file.urls, part, reserve=reserve, largest=source.largest)) as steps,
    ):
        for step in steps:
            if step.note:
                progress.note(one_line(step.note))  # parts of it may come from a server
            bar.reach(step.received, step.total)
    return part


def _check_space(folder: Path, name: str, missing: int, unpacked: int) -> None:
    free = shutil.disk_usage(folder).free
    if missing + unpacked > free:
        raise OutputError(
            f"{folder} has {size_text(free)} free, and {name} needs about "
            f"{size_text(missing + unpacked)} ({size_text(missing)} to fetch, "
            f"{size_text(unpacked)} unpacked); make room or choose another --output"
        )


def _verify(file: RemoteFile, path: Path) -> FetchedFile:
    """Compare the checksum of a file.

    A file with another checksum is removed, so that the next download does not continue it.
    """
    sha256, kind = hash_file(path), algorithm(file.checksum)
    is_right = sha256 == file.checksum if kind == "SHA-256" else has_checksum(path, file.checksum)
    if not is_right:
        transfer.discard(path)
        raise DataError(
            f"{file.name} is damaged or changed and was removed: its {kind} is not "
            f"{file.checksum} (SHA-256: {sha256})"
        )
    return FetchedFile(file.name, path.stat().st_size, sha256, kind)


def _install(source: Source, paths: list[Path], target: Path, progress: Progress) -> None:
    """Unpack the files, and remove the fetched ones if they cannot be used."""
    try:
        with (
            progress.bar(f"unpacking {target.name}", unit="bytes") as bar,
            closing(install(source, paths, target)) as steps,
        ):
            for path, read in steps:
                bar.reach(read, path.stat().st_size)
    except DataError:
        for path in paths:
            if path.suffix == PART:
                transfer.discard(path)
        raise


@contextmanager
def _parts_kept(parts: list[Path], progress: Progress) -> Iterator[None]:
    """Report after Ctrl-C which partial files the next download continues."""
    try:
        yield
    except KeyboardInterrupt:
        for part in parts:
            if transfer.is_resumable(part):
                progress.note(transfer.keeping_note(part))
        raise
