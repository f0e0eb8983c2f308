"""Local copies of models and data sets in a bucket, kept in a cache folder of the user."""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly_cli.errors import AnomalyCliError, DataError, StorageError
from anomaly_cli.files.address import Address
from anomaly_cli.files.atomic import atomic_write, remove_file, remove_partial_files, write_text
from anomaly_cli.files.lock import lock_folder
from anomaly_cli.files.parse import parse_json
from anomaly_cli.files.remote import Item, do_all, read_into, walk
from anomaly_cli.progress import Progress

_INDEX = ".versions.json"  # versions of the objects whose copies are whole, by name
_CACHE_VARIABLE = "XDG_CACHE_HOME"


def fetch(
    address: Address,
    progress: Progress,
    *,
    names: Sequence[str] | None = None,
    depth: int = sys.maxsize,
    kind: type[AnomalyCliError] = DataError,
) -> Path:
    """Copy an object, or all objects below a folder, into the cache; only what is new or changed.

    Copies of objects that are gone are removed. Each file is complete or absent. Processes that
    fetch the same address wait for each other.

    Args:
        address: the object or the folder.
        progress: shows how far it is.
        names: names of files, the most important one first; others are left out. None: all.
        depth: of the folders that are copied: 1 for the files directly in the folder.
        kind: of the error if there is no such object.

    Returns:
        The copy, which has the name of the object or the folder.

    Raises:
        AnomalyCliError: of this kind: there is no such object, or one may not be read.
        StorageError: the storage cannot be used, or an object changed while it was read.
        OutputError: the cache cannot be written.
    """
    items = list(walk(address, depth=depth, kind=kind))
    found = {
        item.address.relative_to(address).as_posix(): item
        for item in items
        if names is None or item.address.name in names
    }
    if not found:
        raise kind(f"{address} holds no {names[0] if names else 'object'}")
    folder = cache_folder() / hashlib.sha256(str(address).encode()).hexdigest()[:16]
    with lock_folder(folder, waits=True):
        _renew(folder, folder / address.name, found, progress)
    return folder / address.name


def cache_folder() -> Path:
    """Find the folder of copies: anomaly-cli in XDG_CACHE_HOME, by default ~/.cache."""
    root = os.environ.get(_CACHE_VARIABLE)
    return (Path(root) if root else Path.home() / ".cache") / "anomaly-cli" / "objects"


def _renew(folder: Path, copy: Path, found: dict[str, Item], progress: Progress) -> None:
    """Make `copy` what was found; the index names nothing whose copy is not whole."""
    remove_partial_files(folder)
    old = _read_index(folder)
    wanted = {name: [item.size, item.version] for name, item in found.items()}
    is_kept = {
        name: old.get(name) == version and (copy / name).is_file()
        for name, version in wanted.items()
    }
    new = [name for name, is_there in is_kept.items() if not is_there]
    if not new and old == wanted:
        return
    _write_index(folder, {name: wanted[name] for name, is_there in is_kept.items() if is_there})
    for name in old.keys() - wanted.keys():
        remove_file(copy / name)
    with progress.bar("fetching", total=len(new)) as bar:

        def get(name: str) -> None:
            _get(found[name], copy / name)
            bar.advance()

        do_all(get, new)
    _write_index(folder, wanted)


def _get(item: Item, path: Path) -> None:
    with atomic_write(path, is_durable=False) as partial:
        read_into(item.address, partial)
        if partial.stat().st_size != item.size:
            raise StorageError(f"{item.address} changed while it was read; try again")


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = parse_json((folder / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: all is fetched
        return {}
    return index if isinstance(index, dict) else {}


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    write_text(folder / _INDEX, json.dumps(index, indent=1) + "\n")
