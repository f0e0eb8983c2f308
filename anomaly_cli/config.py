"""Settings of the commands: each default lives here once, and `cli` reads it. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path

from anomaly_cli.errors import ConfigError


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
        if self.image_size < 32:
            raise ConfigError(f"image_size must be at least 32, got {self.image_size}")
        if self.count < 2:
            raise ConfigError(f"count must be at least 2, got {self.count}")
