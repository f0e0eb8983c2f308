"""Addresses of objects in a bucket, such as s3://bucket/folder/x.png. Reads and writes nothing."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_cli.errors import ConfigError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # of two letters or more: C:// is a drive
if TYPE_CHECKING:
    from pathlib import Path as _Path
else:
    _Path = type(Path())  # before Python 3.12, `Path` itself cannot be extended


class Address(_Path):
    """Address of an object, or of the objects below it: a path that names its storage.

    It has the names and parents of a path, but no file: `open`, `mkdir` and all else that would
    write to the disk refuse it, so that no folder called `s3:` appears.
    """

    __slots__ = ()

    def __str__(self) -> str:
        # A path collapses the second slash.
        return super().__str__().replace("\\", "/").replace(":/", "://", 1)

    def __fspath__(self) -> str:
        """Refuse to stand in for a file.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self}: expected a local path here, no address")

    @property
    def scheme(self) -> str:
        """Name of the storage, such as s3."""
        return self.parts[0].removesuffix(":")

    @property
    def bucket(self) -> "Address":
        """Address of the bucket."""
        return Address(*self.parts[:2])


def is_address(text: str) -> bool:
    """Return whether a text begins like s3://, and so is no local path."""
    return _SCHEME.match(text) is not None


def refuse_address(path: Path, name: str) -> None:
    """Refuse an address where an option took it for a local path, and so dropped a slash.

    Args:
        path: value of the option.
        name: of the option.

    Raises:
        ConfigError: it begins like s3:/, and there is no such folder.
    """
    text = path.as_posix().replace(":/", "://", 1)
    if not isinstance(path, Address) and is_address(text) and not Path(path.parts[0]).exists():
        raise ConfigError(f"{text}: {name} takes a local path, no address")


def parse_place(text: str | Path) -> Path:
    """Read an option that takes a local path or an address.

    Raises:
        ConfigError: the address names no bucket.
    """
    if isinstance(text, Path) or not is_address(text):
        return Path(text) if isinstance(text, str) else text
    address = Address(text)
    if len(address.parts) < 2 or any(part.startswith("..") for part in address.parts):
        raise ConfigError(f"{text} is no address; expected {address.scheme}://BUCKET/FOLDER")
    return address
