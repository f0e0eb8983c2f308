"""Files that are complete or absent: atomic writes, output folders, fingerprints."""

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from anomaly_cli.errors import OutputError

PARTIAL = ".partial"
SETTINGS_FILE = "settings.toml"  # beside every result
SETTINGS_MARK = "# anomaly-cli"  # the first characters of a settings file


@contextmanager
def atomic_write(path: Path, *, is_durable: bool = True) -> Iterator[Path]:
    """Give a path beside `path` to write to, and rename it to `path` at the end of the block.

    A reader sees the old file or the whole new one. An error leaves no partial file behind. Two
    processes that write one file do not disturb each other: the last one to finish wins.

    Args:
        path: the file.
        is_durable: whether it has to be whole after a power cut, too. That takes milliseconds.

    Raises:
        OutputError: the folder cannot be made, or the file cannot be written.
    """
    partial = _partial_in(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if is_durable:
            _make_durable(partial)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # after a name too long for the disk, or a folder that is a file
            partial.unlink()


def _partial_in(folder: Path) -> Path:
    """Name a partial file; no other writer has this name, and no disk finds it too long."""
    return folder / f".{secrets.token_hex(4)}{PARTIAL}"


def _make_durable(path: Path) -> None:
    """Give a file the permissions of any new file, and wait until it is on the disk."""
    with path.open("rb+") as stream:
        if os.name == "posix":  # some libraries write through a file that only its owner may read
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
        os.fsync(stream.fileno())


@cache
def _umask() -> int:
    # It can only be read by setting it, so it is read once, before threads write.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes, *, is_durable: bool = True) -> None:
    """Write a whole file or none of it; see `atomic_write`.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path, is_durable=is_durable) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 file with Unix line ends or none of it.

    Names that are not UTF-8 are escaped, as JSON has it.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def remove_file(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        OutputError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {path}: {error.strerror or error}") from error


def prepare_output_folder(folder: Path, *, overwrite: bool) -> None:
    """Make `folder`, and refuse one that already holds files unless `overwrite` is set.

    A folder that only holds the settings of an earlier run and partial files counts as empty, also
    where these are in folders below it. With `overwrite`, files of the same name are replaced one
    by one. Nothing is deleted but partial files of a run that was killed: the caller holds the lock
    of the folder, so none of them is in use.

    Raises:
        OutputError: the folder already holds files, or cannot be made or written to.
    """
    if is_used(folder) and not overwrite:
        raise folder_in_use(folder)
    remove_partial_files(folder)


def is_used(folder: Path) -> bool:
    """Make `folder`, and check whether it holds more than what counts as empty.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holds_more = not all(map(_is_left_over, folder.iterdir()))
        probe = _partial_in(folder)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return holds_more


def folder_in_use(folder: Path) -> OutputError:
    """Make the error for a folder that holds files which no option allows to replace."""
    return OutputError(
        f"{folder} already holds something; choose another folder or add --overwrite"
    )


def remove_partial_files(folder: Path) -> None:
    """Delete what a run that was killed had begun to write, directly in `folder`."""
    for path in folder.glob(f".{'[0-9a-f]' * 8}{PARTIAL}"):
        with suppress(OSError):
            path.unlink()


def _is_left_over(path: Path) -> bool:
    """Check for the settings of an earlier run, or what one that was killed began to write.

    A user's file of the same name does not count.
    """
    if path.is_dir() and not path.is_symlink():
        return all(map(_is_left_over, path.iterdir()))
    if path.suffix == PARTIAL and path.name.startswith(".") and path.is_file():
        return True
    if path.name != SETTINGS_FILE or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(SETTINGS_MARK)) == SETTINGS_MARK.encode()


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(paths: Iterable[Path], *, root: Path) -> str:
    """Compute the SHA-256 over the names and bytes of files, in the given order.

    Names are relative to `root`, so the same files in another folder have the same fingerprint.
    """
    digest = hashlib.sha256()
    for path in paths:
        line = f"{path.relative_to(root).as_posix()}\0{hash_file(path)}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))  # names that are not UTF-8
    return digest.hexdigest()
