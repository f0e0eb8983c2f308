"""Timing shared by the benchmarks: pairs taken in turns, medians with spreads, Markdown and JSON.

Absolute times depend on the machine and on what else it does. So two things are timed in turns, and
each ratio is that of two neighbours in time.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anomaly_cli.files.atomic import write_text

Work = Callable[[], object]


class Spread(NamedTuple):
    """Median and range of repeated measurements."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        """Show the median with the range in parentheses."""
        median, lowest, highest = (f"{value:.3g}" for value in self)
        return median if lowest == highest else f"{median} ({lowest} to {highest})"


class Pair(NamedTuple):
    """Two measurements taken in turns, and the ratio of the first to the second."""

    tool: Spread
    bare: Spread
    ratio: Spread


def spread(values: Sequence[float]) -> Spread:
    """Summarise repeated measurements."""
    return Spread(statistics.median(values), min(values), max(values))


def seconds(work: Work) -> float:
    """Measure the wall time of one call, the accelerator's queue included."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def paired(tool: Callable[[], float], bare: Callable[[], float], repeats: int) -> Pair:
    """Take two measurements in turns, so that noise hits both alike."""
    pairs = [(tool(), bare()) for _ in range(repeats)]
    ours, theirs = zip(*pairs, strict=True)
    return Pair(spread(ours), spread(theirs), spread([a / b for a, b in pairs]))


def paired_seconds(tool: Work, bare: Work, repeats: int) -> Pair:
    """Time two calls in turns, after one call of each that is not counted."""
    tool(), bare()
    return paired(lambda: seconds(tool), lambda: seconds(bare), repeats)


def describe_machine() -> dict[str, Any]:
    """List what the figures depend on: processors, threads, other work, versions and GPU."""
    has_gpu = torch.cuda.is_available()
    return {
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),  # above 0: other work shares the machine
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
    }


class Table:
    """Table that is printed row by row, and added to a JSON file in the end.

    Args:
        name: key in the JSON file.
        columns: titles; the first is that of the rows' names.
        path: the JSON file, which several benchmarks may share; None writes none.
    """

    def __init__(self, name: str, columns: Sequence[str], path: Path | None = None) -> None:
        self.name, self.columns, self.path = name, columns, path
        self.rows: list[dict[str, Any]] = []
        self.lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
        print("\n" + "\n".join(self.lines), flush=True)

    def add(self, *cells: object) -> None:
        """Print one row: text, numbers or spreads."""
        shown = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells]
        self.lines.append(f"| {' | '.join(shown)} |")
        print(self.lines[-1], flush=True)
        self.rows.append(dict(zip(self.columns, map(_plain, cells), strict=True)))

    def save(self) -> None:
        """Put the rows, and what the machine is, into the JSON file."""
        if self.path is None:
            return
        found = json.loads(self.path.read_text()) if self.path.is_file() else {}
        found[self.name] = {"machine": describe_machine(), "rows": self.rows}
        write_text(self.path, json.dumps(found, indent=2) + "\n")


def _plain(cell: object) -> object:
    """Convert a cell to a plain JSON value, which NaN is not."""
    if isinstance(cell, Spread):
        return cell._asdict()
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks share."""
    parser.add_argument("--quick", action="store_true", help="little work, to see that it runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="file to add the rows to")
