"""Folders and files that only one run writes to at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anomaly_cli.errors import OutputError
from anomaly_cli.files.atomic import prepare_output_folder

try:
    import fcntl
except ImportError:  # Windows has none, and no lock of a folder either
    fcntl = None  # type: ignore[assignment]

_held: set[int] = set()  # descriptors of what is locked


@contextmanager
def lock_folder(folder: Path, *, is_shared: bool = False, waits: bool = False) -> Iterator[None]:
    """Make `folder`, and keep other runs from writing to it until the end of the block.

    The folder itself is locked, so that no file of the lock stays behind. The system releases the
    lock when the process ends, however it ends: there are no stale locks. Where folders cannot be
    locked (Windows, some network disks), nothing is.

    Args:
        folder: the folder.
        is_shared: let others that share the folder, too, write to it at the same time.
        waits: wait for another run that is writing to the folder, instead of an error.

    Raises:
        OutputError: the folder cannot be made, or another run is writing to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    with lock_path(folder, is_shared=is_shared, waits=waits):
        yield


@contextmanager
def lock_path(path: Path, *, is_shared: bool = False, waits: bool = False) -> Iterator[None]:
    """Lock a file or folder that is there; see `lock_folder`.

    Raises:
        OutputError: it cannot be opened, or another run is writing to it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY) if fcntl is not None else -1
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error
    if descriptor < 0:
        yield
        return
    _held.add(descriptor)
    try:
        _lock(descriptor, path, is_shared=is_shared, waits=waits)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


@contextmanager
def open_output_folder(folder: Path, *, overwrite: bool) -> Iterator[None]:
    """Lock `folder`, and refuse one that already holds files; see `prepare_output_folder`.

    Raises:
        OutputError: the folder holds files, cannot be made or written to, or another run is
            writing to it.
    """
    with lock_folder(folder):
        prepare_output_folder(folder, overwrite=overwrite)
        yield


def _lock(descriptor: int, path: Path, *, is_shared: bool, waits: bool) -> None:
    how = (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError as error:
        raise OutputError(
            f"another run is writing to {path}; wait for it, or choose another folder"
        ) from error
    except OSError:  # a network disk without locks
        return


def _forget_locks() -> None:
    """Give up the locks in a new process that reads images, which may outlive the run."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
