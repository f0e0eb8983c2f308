"""Speed, start-up and memory of `localize` with both engines, in pairs of one run.

    python benchmarks/export.py MODEL [IMAGES] [--repeats 3]

MODEL is a model file; it is exported once. IMAGES is a folder; without it, images are drawn.

- network: maps of ready images of the network's size, in batches, images a second. Bar: ONNX
  Runtime at least 1.5 times as many as torch.
- localize: the whole command in a process of its own, images a second after its start.
- start-up: seconds of `localize` of one image in a new process.
- memory: the most that this process held, in megabytes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.export.check import draw_images
from anomaly_cli.export.formats import export_detector
from anomaly_cli.export.runtime import OnnxDetector
from anomaly_cli.files.images import write_png

_MEASURE = (
    "import resource, sys\nfrom anomaly_cli.cli import app\n"
    "app(sys.argv[1:], standalone_mode=False)\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
)


def report(name: str, unit: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Print one row: medians of ONNX Runtime and of torch, and of their ratios."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    medians = [statistics.median(values) for values in (ours, theirs, ratios)]
    print(
        f"| {name} | {unit} | {medians[0]:.2f} | {medians[1]:.2f} | {medians[2]:.2f} |", flush=True
    )


def paired(
    ours: Callable[[], float], theirs: Callable[[], float], repeats: int
) -> tuple[list[float], list[float]]:
    """Measure both in turns, so that noise hits both alike."""
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def rate(function: Callable[[], object], count: int) -> float:
    """Images a second of one call."""
    start = time.perf_counter()
    function()
    return count / (time.perf_counter() - start)


def bench_network(detector: Detector, onnx: OnnxDetector, batch: int, repeats: int) -> None:
    """Time maps of ready images of the network's size."""
    side = detector.network.image_size
    shape = (batch, side, side, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    names = [output.name for output in onnx.session.get_outputs()]

    def ours() -> float:
        return rate(lambda: onnx.session.run(names, {"images": images}), batch)

    def theirs() -> float:
        mapper = detector.view.mapper
        return rate(lambda: mapper.map_batch(to_tensor(images), detector.spec), batch)

    ours(), theirs()
    report(f"network, batch {batch}", "images/s", *paired(ours, theirs, repeats))


def run_localize(model: Path, images: Sequence[Path]) -> tuple[float, float]:
    """Run `localize` in a new process. Returns its seconds and megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-q", "localize", str(model), *map(str, images), "--output", folder]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, *arguments], capture_output=True, text=True, check=True
        )
        return time.perf_counter() - start, float(done.stdout.splitlines()[-1])


def bench_command(model: Path, exported: Path, images: list[Path], repeats: int) -> None:
    """Time start-up and images after it, and measure memory."""
    columns: dict[str, list[list[float]]] = {"start": [], "rate": [], "memory": []}
    for _ in range(repeats):
        start, speed, memory = [], [], []
        for path in (exported, model):
            short, _ = run_localize(path, images[:1])
            long, most = run_localize(path, images)
            start.append(short)
            speed.append((len(images) - 1) / (long - short))
            memory.append(most)
        for name, pair in zip(columns, (start, speed, memory), strict=True):
            columns[name].append(pair)
    units = {"start": "s", "rate": "images/s", "memory": "MB"}
    for name, pairs in columns.items():
        ours, theirs = zip(*pairs, strict=True)
        report(f"localize, {name}", units[name], ours, theirs)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        detector = Detector.open(options.model, MapConfig(device="cpu"))
        exported = folder / "model.onnx"
        exported.write_bytes(export_detector(detector, "onnx").content)
        images = sorted(options.images.rglob("*.png"))[:64] if options.images else []
        for place, (_, image) in enumerate([] if images else list(draw_images(320)) * 8):
            images.append(folder / f"{place}.png")
            write_png(images[-1], image)
        onnx = OnnxDetector.open(exported, MapConfig())
        load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        print(f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, {load}\n")
        print("| what | unit | ONNX Runtime | torch | ratio |\n| --- | --- | --- | --- | --- |")
        for batch in (1, 16):
            bench_network(detector, onnx, batch, 2 * options.repeats + 1)
        bench_command(options.model, exported, images, options.repeats)


if __name__ == "__main__":
    main()
