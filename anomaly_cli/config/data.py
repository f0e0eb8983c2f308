"""Settings of the commands that make, fetch, check and show data sets. Loads no torch."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anomaly_cli.config.names import DOWNLOADS
from anomaly_cli.errors import require

Photographs = Literal["mvtec", "folder"]  # data sets that are no official archives
UNCHECKED = "none"  # value of --checksum: the file is not checked
_URL = re.compile(r"https?://[^\s/]\S*")
_CHECKSUM = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Settings of `sample`."""

    destination: Path
    category: str = "all"  # brick, grass, gravel or all
    image_size: int = 256  # pixels, square
    count: int = 40  # normal training images per category
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(self.image_size >= 32, f"--image-size must be at least 32, got {self.image_size}")
        require(self.seed >= 0, f"--seed must not be negative, got {self.seed}")
        require(self.count >= 3, f"--count must be at least 3, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class PreviewDefectsConfig:
    """Settings of `preview-defects`."""

    dataset: Photographs = "mvtec"
    data: Path = Path("data/mvtec")
    category: str = "all"
    output: Path = Path("defects.png")
    image_size: int = 256  # pixels, square
    examples: int = 6  # defects of each kind
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(self.image_size >= 32, f"--image-size must be at least 32, got {self.image_size}")
        require(
            self.category != "all" or self.dataset == "folder",
            "--category must be one category, not all",
        )
        require(self.examples >= 1, f"--examples must be at least 1, got {self.examples}")
        require(self.seed >= 0, f"--seed must not be negative, got {self.seed}")
        require(self.output.suffix.lower() == ".png", f"--output must end in .png: {self.output}")


@dataclass(frozen=True, kw_only=True)
class CheckDataConfig:
    """Settings of `check-data`."""

    dataset: Photographs = "mvtec"
    data: Path = Path("data/mvtec")
    category: str = "all"
    image_size: int = 256  # pixels; smaller images are reported
    strict: bool = False  # whether warnings fail the check too
    workers: int = 4  # threads that decode

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(self.image_size >= 1, f"--image-size must be at least 1, got {self.image_size}")
        require(self.workers >= 1, f"--workers must be at least 1, got {self.workers}")


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """Settings of `download`."""

    names: tuple[str, ...]
    output: Path = Path("data")
    accept_licence: bool = False
    url: str | None = None  # of the file, or of the folder if there are several; None: official
    checksum: str | None = None  # of the file at `url`: MD5 or SHA-256, or none; None: official
    keep_archive: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        for name in self.names:
            require(name in DOWNLOADS, f"unknown data set {name!r}; known: {', '.join(DOWNLOADS)}")
        require(len(self.names) > 0, "name at least one data set")
        require(
            self.url is None or len(set(self.names)) == 1,
            "--url needs exactly one data set",
        )
        require(
            self.url is None or _URL.fullmatch(self.url) is not None,
            f"--url must be an address that starts with http:// or https://, got {self.url}",
        )
        self._check_checksum()

    def _check_checksum(self) -> None:
        if self.checksum is None:
            return
        require(self.url is not None, "--checksum needs --url: it is the checksum of that file")
        is_hash = _CHECKSUM.fullmatch(self.checksum) is not None
        require(
            is_hash or self.checksum == UNCHECKED,
            f"--checksum must be 32 (MD5) or 64 (SHA-256) lower-case hexadecimal digits, or "
            f"{UNCHECKED}, got {self.checksum}",
        )
