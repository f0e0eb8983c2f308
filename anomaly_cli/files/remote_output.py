"""An output folder in a bucket: files are written to a working folder, and uploaded from there.

Objects have no locks, and nothing can be added to one. So a manifest is uploaded as a whole now and
then, and it names only images whose pictures are in the bucket.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from anomaly_cli.errors import AnomalyCliError, OutputError
from anomaly_cli.files.address import Address
from anomaly_cli.files.atomic import PARTIAL, SETTINGS_FILE, remove_file
from anomaly_cli.files.destination import Destination, files_of
from anomaly_cli.files.images import is_manifest
from anomaly_cli.files.remote import (
    THREADS,
    Item,
    do_all,
    exists,
    list_folder,
    read_into,
    read_start,
    remove,
    walk,
    write_from,
)

SECONDS = 30.0  # between two uploads of what changes: a manifest, the state of a training
_SHARE = 0.1  # of the time of a run that such uploads take at most
_HEAD = 1 << 16  # bytes that hold the first line of a manifest
_MORE = ".more"  # stands in the working folder for all else in the bucket
_LAST = {".safetensors", ".jsonl"}  # models and manifests say that other files are complete

_Stamp = tuple[int, int]  # size and time of the last change


class BucketDestination(Destination):
    """An output folder in a bucket."""

    threads = THREADS

    def __init__(self, folder: Path, address: Address) -> None:
        super().__init__(folder)
        self._address = address
        self._stamps: dict[str, _Stamp] = {}  # of the files that are as they are in the bucket
        self._next = 0.0  # when the manifest is due

    def pull(self, is_needed: Callable[[str], bool] = lambda _name: False) -> None:
        """See `Destination`."""
        for item in _list(self._address):
            name = item.address.name
            is_known = not item.is_folder and (name == SETTINGS_FILE or is_manifest(name))
            path = self.folder / (name if is_known else _MORE)
            if not is_known:
                path.touch()
            elif is_manifest(name) and not is_needed(name):
                path.write_bytes(_first_line(item))
            else:
                read_into(item.address, path, kind=OutputError)
            self._stamps[path.name] = _stamp(path)

    def pull_all(self, part: str = "") -> None:
        """Bring all files of a folder in the bucket to the working folder.

        Raises:
            OutputError: one may not be read.
        """
        root = self._address / part
        items = list(walk(root)) if _list(root) else []

        def get(item: Item) -> None:
            path = self.folder / item.address.relative_to(self._address)
            path.parent.mkdir(parents=True, exist_ok=True)
            read_into(item.address, path, kind=OutputError)
            self._stamps[self._key(path)] = _stamp(path)

        do_all(get, items)

    def deliver(self, record: Mapping[str, Any]) -> None:
        """See `Destination`."""
        for name in files_of(record):
            write_from(self.folder / name, self._address / name)
            remove_file(self.folder / name)

    def publish(self, *, is_due: bool = True) -> None:
        """See `Destination`."""
        start = time.monotonic()
        if is_due or start >= self._next:
            self._upload([path for path in self.folder.iterdir() if path.is_file()])
            end = time.monotonic()
            self._next = end + max(SECONDS, (end - start) / _SHARE)

    def publish_all(self) -> None:
        """Upload every file that has changed, also in folders; a model and a manifest last.

        Raises:
            OutputError: a file cannot be written.
        """
        self._upload([path for path in self.folder.rglob("*") if path.is_file()])

    @contextmanager
    def publishing_meanwhile(self) -> Iterator[None]:
        """Publish every file now and then while the block runs, for who goes on after a kill.

        What fails here is tried again, and at the end it is an error of `publish_all`.
        """
        has_ended = Event()

        def work() -> None:
            pause = SECONDS
            while not has_ended.wait(pause):
                start = time.monotonic()
                with suppress(OSError, AnomalyCliError):  # such as a file that is renamed meanwhile
                    self.publish_all()
                pause = max(SECONDS, (time.monotonic() - start) / _SHARE)

        thread = Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            has_ended.set()
            thread.join()

    def final(self, path: Path) -> Path:
        """See `Destination`."""
        return self._address / path.relative_to(self.folder)

    def _upload(self, paths: list[Path]) -> None:
        """Upload what has changed, and remove from the bucket what was removed."""
        stamps = {self._key(path): _stamp(path) for path in paths if path.suffix != PARTIAL}
        changed = [name for name, stamp in stamps.items() if self._stamps.get(name) != stamp]
        last = [name for name in changed if Path(name).suffix in _LAST]
        for names in (sorted(set(changed) - set(last)), last):
            do_all(lambda name: write_from(self.folder / name, self._address / name), names)
        self._stamps |= {name: stamps[name] for name in changed}
        for name in [name for name in self._stamps if not (self.folder / name).exists()]:
            remove(self._address / name)
            del self._stamps[name]

    def _key(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


@contextmanager
def open_bucket(address: Address) -> Iterator[BucketDestination]:
    """Open an output folder in a bucket, with a working folder that is removed at the end.

    Errors of the block name the address, where they named the working folder.

    Raises:
        OutputError: there is no such bucket.
        StorageError: the storage cannot be used.
    """
    if not _list(address) and not exists(address.bucket):
        raise OutputError(f"cannot write to {address}: there is no such bucket, or no access to it")
    with tempfile.TemporaryDirectory(prefix="anomaly-cli-") as folder:
        try:
            yield BucketDestination(Path(folder), address)
        except AnomalyCliError as error:
            error.args = (str(error).replace(folder, str(address)),)
            raise


def _list(address: Address) -> list[Item]:
    """List a folder in a bucket; one that does not exist yet is empty."""
    try:
        return list_folder(address, kind=OutputError)
    except OutputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return []
        raise


def _first_line(item: Item) -> bytes:
    start = read_start(item.address, _HEAD) if item.size else b""
    line, end, _rest = start.partition(b"\n")
    return line + end


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
