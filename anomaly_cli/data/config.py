"""Settings of the commands that make and look at data sets. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anomaly_cli.errors import require

Photographs = Literal["mvtec", "folder"]  # data sets that are no official archives


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
            "--category must name one category: a sheet shows one",
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
    image_size: int = 256  # pixels; smaller images are named
    strict: bool = False  # warnings fail too
    workers: int = 4  # threads that decode

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(self.image_size >= 1, f"--image-size must be at least 1, got {self.image_size}")
        require(self.workers >= 1, f"--workers must be at least 1, got {self.workers}")
