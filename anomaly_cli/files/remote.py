"""Objects in a bucket: list, read, write and remove them. The only module that knows fsspec.

fsspec knows S3, Google Cloud Storage, Azure and others by one interface; it takes addresses,
credentials and endpoints from the environment, as the tools of these storages do.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from anomaly_cli.errors import AnomalyCliError, ConfigError, DataError, OutputError, StorageError
from anomaly_cli.files.address import Address
from anomaly_cli.files.numbers import one_line

THREADS = 16  # requests at once; a request mostly waits
_INSTALL = "pip install 'anomaly-cli[cloud]'"
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
_VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "created")
# Codes of S3 that concern one object; others, such as an expired token, concern all of them.
_OF_ONE_OBJECT = {"AccessDenied", "403", "InvalidObjectState"}
_Kind = type[AnomalyCliError]


class Item(NamedTuple):
    """An object, or a folder of objects, as a listing tells it."""

    address: Address
    is_folder: bool
    size: int  # bytes
    version: str  # differs when the content does: a hash, or the time of the last change


def list_folder(folder: Address, *, kind: _Kind = DataError) -> list[Item]:
    """List the objects and folders directly in a folder, by name; of an object, list itself.

    Hidden ones are left out, and objects whose names are no names of files: those with an empty
    part, as in `a//b`, or with `.` and `..`.

    Raises:
        AnomalyCliError: of this kind, if there is no such folder, or it may not be listed.
        StorageError: the storage cannot be used.
    """
    with _telling("list", folder, kind):
        entries = _open(folder.scheme).ls(str(folder), detail=True)
        base = _name(folder)
    return sorted(item for entry in entries if (item := _item(folder, base, entry)) is not None)


def _item(folder: Address, base: str, entry: dict[str, Any]) -> Item | None:
    name = entry["name"]
    is_folder = entry["type"] == "directory"
    size, version = entry.get("size") or 0, next(filter(None, map(entry.get, _VERSIONS)), "")
    if name == base and not is_folder:
        return Item(folder, is_folder, size, str(version))
    own = name.removeprefix(base).removeprefix("/")
    own = own.removesuffix("/") if is_folder else own
    if not own or own.startswith(".") or "/" in own:
        return None
    return Item(folder / own, is_folder, size, str(version))


def walk(
    root: Address,
    *,
    depth: int = sys.maxsize,
    enters: Callable[[Address, list[Item]], bool] = lambda _folder, _items: True,
    kind: _Kind = DataError,
) -> Iterator[Item]:
    """List the objects below a folder, many folders at once; their order is not defined.

    Args:
        root: the folder, or an object.
        depth: of the folders that are entered: 1 for the root alone.
        enters: called with a folder below the root and what is in it; False leaves it out.
        kind: of the error if there is no such folder.

    Raises:
        AnomalyCliError: see `list_folder`.
    """
    waiting = [root]
    with ThreadPoolExecutor(THREADS) as pool:
        while waiting and depth:
            level, waiting, depth = waiting, [], depth - 1
            for folder, items in zip(
                level, pool.map(partial(list_folder, kind=kind), level), strict=True
            ):
                if folder != root and not enters(folder, items):
                    continue
                waiting += [item.address for item in items if item.is_folder]
                yield from (item for item in items if not item.is_folder)


def match(pattern: Address) -> list[Address]:
    """List the objects and folders that match a glob pattern, but none that are hidden.

    Raises:
        StorageError: the storage cannot be used.
    """
    with _telling("list", pattern, DataError):
        storage = _open(pattern.scheme)
        found = storage.glob(str(pattern))
        base = _name(pattern.bucket)
    names = [name.removeprefix(base).strip("/") for name in found]
    plain = [name for name in names if not any(part[:1] in {"", "."} for part in name.split("/"))]
    return [pattern.bucket / name for name in sorted(plain)]


def exists(bucket: Address) -> bool:
    """Check for a bucket.

    Raises:
        StorageError: the storage cannot be used.
    """
    with _telling("reach", bucket, StorageError):
        return bool(_open(bucket.scheme).exists(str(bucket)))


def read_into(address: Address, path: Path, *, kind: _Kind = DataError) -> None:
    """Read an object into a file.

    Raises:
        AnomalyCliError: of this kind, if there is no such object, or it may not be read.
        StorageError: the storage cannot be used.
    """
    with _telling("read", address, kind):
        _open(address.scheme).get_file(str(address), str(path))


def read_start(address: Address, size: int) -> bytes:
    """Read the first bytes of an object, at most `size`.

    Raises:
        OutputError: there is no such object, or it may not be read.
        StorageError: the storage cannot be used.
    """
    with _telling("read", address, OutputError):
        content: bytes = _open(address.scheme).cat_file(str(address), start=0, end=size)
        return content


def write_from(path: Path, address: Address) -> None:
    """Write a file to an object, which appears when all of it is there.

    Raises:
        OutputError: it cannot be written.
    """
    with _telling("write", address, OutputError, other=OutputError):
        _open(address.scheme).put_file(str(path), str(address))


def remove(address: Address) -> None:
    """Remove an object.

    Raises:
        OutputError: it cannot be removed.
    """
    with _telling("remove", address, OutputError, other=OutputError):
        _open(address.scheme).rm_file(str(address))


def do_all(function: Callable[..., object], *arguments: Iterable[Any]) -> None:
    """Call a function with each of the arguments, many at once.

    Raises:
        AnomalyCliError: the first that a call raised.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        for _done in pool.map(function, *arguments):
            pass


@cache
def _open(scheme: str) -> Any:
    """Open a storage, once for all threads.

    Raises:
        ConfigError: its package is not installed, or nothing knows it.
    """
    # Here alone, so that runs without addresses need no fsspec.
    package = _PACKAGES.get(scheme)
    install = f"{_INSTALL} {package}" if package else _INSTALL
    try:
        import fsspec  # noqa: PLC0415

        # fsspec's own cache has one storage for each thread, and its listings do not get old.
        return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        raise ConfigError(
            f"{scheme}:// needs a package that is not installed: {install}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{scheme}:// is no storage that is known: {_text(error)}") from error


def _name(address: Address) -> str:
    """Name an object as listings do."""
    name: str = _open(address.scheme)._strip_protocol(str(address))  # noqa: SLF001 - its documented hook
    return name.rstrip("/")


@contextmanager
def _telling(
    action: str, address: Address, kind: _Kind, *, other: _Kind = StorageError
) -> Iterator[None]:
    """Turn every error of a storage into one line that names the address.

    Args:
        action: what is tried, such as read.
        address: of what.
        kind: of the error, where this object is missing or may not be used.
        other: of the error, where no object can be used.
    """
    try:
        yield
    except (AnomalyCliError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise kind(
            f"cannot {action} {address}: there is no such object, folder or bucket"
        ) from error
    # Each storage raises errors of its own libraries: of HTTP, of credentials, of time.
    except Exception as error:
        is_of_object = isinstance(error, PermissionError) and _code(error) in _OF_ONE_OBJECT
        own = kind if is_of_object else other
        advice = _advice(error, address.scheme)
        raise own(f"cannot {action} {address}: {_text(error)}{advice}") from error


def _code(error: BaseException) -> str:
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", "403"))


def _text(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return one_line(" ".join(str(text).split())[:200])


def _advice(error: Exception, scheme: str) -> str:
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    is_s3 = scheme in {"s3", "s3a"}
    if "Credential" in names and is_s3:
        return "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
    if "Credential" in names or isinstance(error, PermissionError):
        return "; check the credentials, and what they allow"
    if "Connect" in names or "Timeout" in names:
        return "; check the network" + (", and AWS_ENDPOINT_URL if it is set" if is_s3 else "")
    return ""
