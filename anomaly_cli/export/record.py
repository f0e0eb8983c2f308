"""Metadata of an exported file: what its numbers mean, as JSON. Loads no torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.files.parse import parse_json

KEY = "anomaly_cli"  # of the JSON text in the metadata of a file
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """Description of an exported detector.

    Raises:
        ValueError: a value is out of range.
    """

    category: str
    map: str  # name of the anomaly map
    scores: str  # scale of the map: raw, global or position
    threshold: Threshold
    colour_range: tuple[float, float]  # map values at the two ends of the colour bar
    model_sha256: str  # of the model file
    image_size: int  # pixels, side S of the network's input
    patch_grid: tuple[int, int] | None = None  # places (h, w) of a model with a memory
    memory_images: tuple[str, ...] = ()  # training images of the memory, by number
    versions: Mapping[str, str]  # of anomaly-cli, torch and the format

    def __post_init__(self) -> None:
        """Refuse numbers that no model has."""
        finite = (self.threshold.value, *self.colour_range)
        if not all(math.isfinite(value) for value in finite):
            raise ValueError("threshold and colour range must be finite")
        if not 1 <= self.image_size <= 1 << 14:
            raise ValueError("image_size is out of range")
        if self.patch_grid is not None and not all(1 <= side < 1 << 14 for side in self.patch_grid):
            raise ValueError("patch_grid is out of range")

    def to_json(self) -> str:
        """Write the record as JSON; a threshold has the names that it has in a manifest."""
        fields = asdict(self) | {"schema_version": SCHEMA_VERSION, "versions": dict(self.versions)}
        del fields["threshold"]
        fields |= self.threshold.record() | {"held_out": self.threshold.held_out}
        return json.dumps(fields, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "ExportRecord":
        """Read a record.

        Raises:
            ValueError: the text is no record, or of another version. Others may be raised for
                values of a wrong kind: KeyError, TypeError, OverflowError.
        """
        values: dict[str, Any] = parse_json(text)
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version}, expected {SCHEMA_VERSION}")
        low, high = values["colour_range"]
        return cls(
            category=str(values["category"]),
            map=str(values["map"]),
            scores=str(values["scores"]),
            threshold=_read_threshold(values),
            colour_range=(float(low), float(high)),
            model_sha256=str(values["model_sha256"]),
            image_size=int(values["image_size"]),
            patch_grid=_read_pair(values["patch_grid"], int),
            memory_images=tuple(map(str, values["memory_images"])),
            versions={str(name): str(text) for name, text in values["versions"].items()},
        )


def _read_threshold(values: Mapping[str, Any]) -> Threshold:
    outline, level = (
        math.nan if values[name] is None else float(values[name])
        for name in ("outline", "normal_level")
    )
    return Threshold(
        float(values["threshold"]),
        str(values["threshold_rule"]),
        int(values["held_out"]),
        outline,
        _read_pair(values["expected_rates"], float),
        level,
    )


def _read_pair(values: Any, kind: Any) -> Any:
    """Read two numbers; None stays."""
    if values is None:
        return None
    first, second = values
    return kind(first), kind(second)
