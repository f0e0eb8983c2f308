"""Settings of `download`: each default lives here once, and `cli` reads it. Loads no torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from anomaly_cli.downloads.sources import SOURCES, RemoteFile
from anomaly_cli.errors import require

UNCHECKED = "none"
_URL = re.compile(r"https?://[^\s/]\S*")
_CHECKSUM = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """Settings of `download`."""

    names: tuple[str, ...]
    output: Path = Path("data")
    accept_licence: bool = False
    url: str | None = None  # of the file, or of the folder where there are several; None: official
    checksum: str | None = None  # of the file at `url`: MD5 or SHA-256, or none; None: official
    keep_archive: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        for name in self.names:
            require(name in SOURCES, f"no data set {name!r}; there are {', '.join(SOURCES)}")
        require(len(self.names) > 0, "name at least one data set")
        require(
            self.url is None or len(set(self.names)) == 1,
            "--url is the address of one data set: name one",
        )
        require(
            self.url is None or _URL.fullmatch(self.url) is not None,
            f"--url must be an address that starts with http:// or https://, got {self.url}",
        )
        self._check_checksum()

    def _check_checksum(self) -> None:
        if self.checksum is None:
            return
        require(self.url is not None, "--checksum is that of the file at --url: give both")
        is_hash = _CHECKSUM.fullmatch(self.checksum) is not None
        require(
            is_hash or self.checksum == UNCHECKED,
            f"--checksum must be 32 (MD5) or 64 (SHA-256) lower-case hexadecimal digits, or "
            f"{UNCHECKED}, got {self.checksum}",
        )
        several = [name for name in self.names if len(SOURCES[name].files) > 1]
        require(
            not (is_hash and several), f"{', '.join(several)} has several files: no one --checksum"
        )

    def files(self, name: str) -> tuple[RemoteFile, ...]:
        """The files of a data set, at `url` and with `checksum` where these are given."""
        files = SOURCES[name].files
        if self.url is None:
            return files
        checksum = "" if self.checksum == UNCHECKED else self.checksum
        base = self.url.rstrip("/")
        return tuple(
            RemoteFile(
                file.name,
                file.checksum if checksum is None else checksum,
                (self.url if len(files) == 1 else f"{base}/{file.name}",),
            )
            for file in files
        )
