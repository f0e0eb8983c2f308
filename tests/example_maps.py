"""Saved maps with a ground truth, drawn in a moment, and `evaluate --maps` on them."""

import json
from pathlib import Path

import numpy as np
from conftest import Outcome, run_cli

from anomaly_cli.files.images import write_png, write_tiff

CATEGORY = "ring"


def write_sample(root: Path, place: str, scores: np.ndarray, mask: np.ndarray | None) -> None:
    """Make a map, a grey image and, of a defect, its mask."""
    category, kind, name = place.split("|")
    write_tiff(root / "maps" / category / "test" / kind / f"{name}.tiff", scores)
    picture = np.full((*scores.shape, 3), 128, np.uint8)
    write_png(root / "data" / category / "test" / kind / f"{name}.png", picture)
    if mask is not None:
        path = root / "data" / category / "ground_truth" / kind / f"{name}_mask.png"
        write_png(path, mask)


def draw(seed: int, *, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Make a map (40, 60) with a block of higher scores."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 60), bool)
    mask[5:15, 10:30] = True
    return (rng.random((40, 60)) + gain * mask).astype(np.float32), mask


def write_split(
    root: Path, category: str = CATEGORY, kinds: tuple[str, str] = ("cut", "hole")
) -> Path:
    """Three normal images, and three of each of two defect types."""
    for index in range(3):
        scores, _mask = draw(index, gain=0.0)
        write_sample(root, f"{category}|good|{index:03}", scores, None)
        for number, kind in enumerate(kinds, start=1):
            scores, mask = draw(100 * number + index, gain=0.4 * number)
            write_sample(root, f"{category}|{kind}|{index:03}", scores, mask)
    return root


def evaluate(root: Path, *options: object, output: str = "out") -> Outcome:
    """Few replicates, because these tests ask for other things."""
    return run_cli(
        "evaluate", "--maps", root / "maps", "--data", root / "data", "--output", root / output,
        "--replicates", 20, *options,
    )  # fmt: skip


def read(root: Path, output: str = "out") -> dict:
    """Read the report in JSON."""
    return json.loads((root / output / "report.json").read_text(encoding="utf-8"))
