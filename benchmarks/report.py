"""Time of a whole report over saved maps as many as MVTec AD's test images, as ratios.

    python benchmarks/report.py [--quick] [--keep FOLDER]

Draws 15 categories with 1,725 images, masks and log-normal float maps of 256 x 256 pixels, and
runs `evaluate --maps` on them in a process of its own, as a user would. It uses one core, so the
processor time says what it takes where other work shares the machine.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from measure import Table

from anomaly_cli.files.images import write_png, write_tiff

# Test images of MVTec AD, and how many of them are normal.
TEST_IMAGES = {
    "bottle": (83, 20),
    "cable": (150, 58),
    "capsule": (132, 23),
    "carpet": (117, 28),
    "grid": (78, 21),
    "hazelnut": (110, 40),
    "leather": (124, 32),
    "metal_nut": (115, 22),
    "pill": (167, 26),
    "screw": (160, 41),
    "tile": (117, 33),
    "toothbrush": (42, 12),
    "transistor": (100, 60),
    "wood": (79, 19),
    "zipper": (151, 32),
}
DEFECTS = ("cut", "hole", "scratch", "stain", "thread")
RUNS: dict[str, tuple[str, ...]] = {
    "everything": (),
    "without intervals": ("--replicates", "0"),
    "without HTML": ("--format", "json,csv,markdown,junit"),
    "JSON alone, without intervals": ("--format", "json", "--replicates", "0"),
}


def draw_category(root: Path, name: str, *, size: int) -> None:
    """Images, masks and maps of one category; anomalous pixels score higher on average."""
    total, normal = TEST_IMAGES[name]
    rng = np.random.default_rng(len(name) + total)
    gain = np.float32(rng.uniform(0.5, 2.5))
    for index in range(total):
        defect = "good" if index < normal else DEFECTS[index % len(DEFECTS)]
        canvas = np.zeros((size, size), np.uint8)
        for row, column in rng.integers(size // 8, size - size // 8, (2, 2)).tolist():
            cv2.circle(canvas, (column, row), size // 16, 1, thickness=-1)
        mask = (canvas > 0) & (defect != "good")
        noise = cv2.GaussianBlur(rng.standard_normal((size, size), dtype=np.float32), (0, 0), 4)
        scores = np.exp(noise * 8 + gain * cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3))
        grey = np.clip(120 + 12 * noise[..., None] - 60 * mask[..., None], 0, 255)
        place = f"{defect}/{index:03}"
        write_png(root / f"data/{name}/test/{place}.png", grey.repeat(3, axis=2).astype(np.uint8))
        write_tiff(root / f"maps/{name}/test/{place}.tiff", scores.astype(np.float32))
        if defect != "good":
            write_png(root / f"data/{name}/ground_truth/{place}_mask.png", mask)


class Measurement(NamedTuple):
    """Measure one evaluation, start of the process included."""

    seconds: float
    processor_seconds: float


def run_report(root: Path, options: Sequence[str]) -> Measurement:
    """Evaluate the maps once."""
    command = [sys.executable, "-m", "anomaly_cli", "--quiet", "evaluate", "--overwrite"]
    command += ["--maps", str(root / "maps"), "--data", str(root / "data")]
    before, start = _processor_seconds(), time.perf_counter()
    subprocess.run(
        [*command, "--output", str(root / "report"), *options],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return Measurement(time.perf_counter() - start, _processor_seconds() - before)


def _processor_seconds() -> float:
    """Return the processor time of all child processes so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(root: Path, names: Sequence[str], *, size: int, path: Path | None) -> None:
    """Draw the maps and print the tables; `path` is a JSON file to add the rows to."""
    for name in names:
        draw_category(root, name, size=size)
    count = sum(TEST_IMAGES[name][0] for name in names)
    print(f"{len(names)} categories, {count} maps of {size} x {size}")
    results = {name: run_report(root, options) for name, options in RUNS.items()}
    whole = results["everything"].processor_seconds
    table = Table("report", ("report", "seconds", "CPU s", "x CPU"), path)
    for name, (seconds, processor) in results.items():
        table.add(name, seconds, processor, processor / whole)
    table.save()
    run_report(root, ())
    table = Table("files of a report", ("file", "MiB"), path)
    for file in sorted((root / "report").iterdir()):
        table.add(file.name, file.stat().st_size / 2**20)
    table.save()


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two categories")
    parser.add_argument("--keep", type=Path, help="folder for data and report, to look at them")
    parser.add_argument("--json", type=Path, help="file to add the rows to")
    options = parser.parse_args()
    names = ["toothbrush", "wood"] if options.quick else list(TEST_IMAGES)
    if options.keep:
        measure(options.keep, names, size=256, path=options.json)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), names, size=256, path=options.json)


if __name__ == "__main__":
    main()
