"""Time and memory of the pixel metrics against the usual ways to compute them, as ratios.

    python benchmarks/metrics.py [--quick] [--repeats N]

Every row runs in a process of its own on the same maps; the time is the median of the repeats,
the memory what the peak of the process rises above maps, masks and imports.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from measure import Table
from numpy.typing import NDArray
from skimage.measure import label, regionprops
from sklearn.metrics import roc_auc_score

from anomaly_cli.metrics.counts import StreamingCounts
from anomaly_cli.metrics.detection import PixelMetrics, pixel_metrics
from anomaly_cli.metrics.images import PixelPool, rank_pixels, sort_pixels
from anomaly_cli.metrics.ranking import Ranking

FPR_LIMIT = 0.3
THRESHOLDS = 200  # of the loop over regionprops
THRESHOLDS_RUN = 10  # of them are run, the rest is extrapolated

Maps = NDArray[np.float32]  # (N, H, W)
Masks = NDArray[np.bool_]  # (N, H, W)


class Measurement(NamedTuple):
    """Measurements of one process."""

    seconds: float  # median
    added_mib: float  # peak above the maps
    metrics: dict[str, float]


class PixelCounts(Protocol):
    """Counts that take one image after another."""

    def add(self, pixels: PixelPool) -> None:
        """Count one image whose pixels are sorted already."""

    def ranking(self) -> Ranking:
        """Rank all pixels counted so far."""


class ExactCounts:
    """All pixels, as an exact evaluation keeps them."""

    def __init__(self) -> None:
        self.pools: list[PixelPool] = []

    def add(self, pixels: PixelPool) -> None:
        """Keep the pixels of one image."""
        self.pools.append(pixels)

    def ranking(self) -> Ranking:
        """Rank all pixels."""
        return rank_pixels(self.pools)


def draw_samples(count: int, size: int) -> Iterator[tuple[Maps, Masks]]:
    """Log-normal maps and masks (size, size) with 3% anomalous pixels in round blobs."""
    rng = np.random.default_rng(0)
    radius = round(size * 0.0577)
    for _ in range(count):
        canvas = np.zeros((size, size), np.uint8)
        for row, column in rng.integers(radius, size - radius, (3, 2)).tolist():
            cv2.circle(canvas, (column, row), radius, 1, thickness=-1)
        mask = canvas > 0
        noise = rng.standard_normal((size, size), dtype=np.float32)
        yield np.exp(noise + np.float32(1.2) * mask), mask


def count_all(counts: PixelCounts, maps: Maps, masks: Masks) -> dict[str, float]:
    """AUROC, AP, best F1, best IoU and AU-PRO from counts."""
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counts.add(sort_pixels(anomaly_map, mask).pixels)
    return flatten(pixel_metrics(counts.ranking(), fpr_limit=FPR_LIMIT))


def flatten(metrics: PixelMetrics) -> dict[str, float]:
    """Values, and bounds under `bound_...`."""
    bounds = {f"bound_{name}": value for name, value in metrics.bounds._asdict().items()}
    return {name: value for name, value in metrics._asdict().items() if name != "bounds"} | bounds


def auroc_of_sklearn(maps: Maps, masks: Masks) -> dict[str, float]:
    """Pixel AUROC alone."""
    return {"pixel_auroc": float(roc_auc_score(masks.ravel(), maps.ravel()))}


def aupro_of_regionprops(maps: Maps, masks: Masks) -> dict[str, float]:
    """Loop over thresholds and regions, as many repositories do, for the overlap of each."""
    for threshold in np.linspace(maps.min(), maps.max(), THRESHOLDS)[:THRESHOLDS_RUN]:
        called = maps > threshold
        overlaps = [
            called_map[region.coords[:, 0], region.coords[:, 1]].mean()
            for called_map, mask in zip(called, masks, strict=True)
            for region in regionprops(label(mask))  # type: ignore[no-untyped-call]
        ]
        _ = np.mean(overlaps), called[~masks].mean()
    return {}  # of a part of the thresholds


def aupro_of_argsort(maps: Maps, masks: Masks) -> dict[str, float]:
    """As the metric libraries do: all scores in one float array, argsort, cumulative sums."""
    rises = np.zeros(maps.shape, np.float64)
    regions = 0
    for rise, mask in zip(rises, masks, strict=True):
        count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
        areas = np.bincount(labels.ravel())
        rise[mask] = 1.0 / areas[labels[mask]]
        regions += count - 1
    scores = maps.ravel()
    order = np.argsort(-scores)
    overlap = np.cumsum(rises.ravel()[order]) / regions
    fpr = np.cumsum(~masks.ravel()[order]) / np.count_nonzero(~masks)
    is_last = np.append(np.diff(scores[order]) != 0, True)
    fpr, overlap = np.append(0.0, fpr[is_last]), np.append(0.0, overlap[is_last])
    end = int(np.searchsorted(fpr, FPR_LIMIT))
    x = np.append(fpr[:end], FPR_LIMIT)
    y = np.append(overlap[:end], np.interp(FPR_LIMIT, fpr, overlap))
    return {"aupro": float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / FPR_LIMIT)}


METHODS: dict[str, Callable[[Maps, Masks], dict[str, float]]] = {
    "exact": lambda maps, masks: count_all(ExactCounts(), maps, masks),
    "streaming": lambda maps, masks: count_all(StreamingCounts(), maps, masks),
    "sklearn": auroc_of_sklearn,
    "regionprops": aupro_of_regionprops,
    "argsort": aupro_of_argsort,
}
ONE_BY_ONE: dict[str, Callable[[], PixelCounts]] = {
    "streaming, one by one": StreamingCounts,
    "exact, one by one": ExactCounts,
}


def peak_mib() -> float:
    """Highest resident memory of this process so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def rise_above(before: float) -> float:
    """MiB that the peak has risen, at least 1 so that a ratio to it has a meaning."""
    return max(peak_mib() - before, 1.0)


def run_on_arrays(method: str, count: int, size: int, repeats: int) -> Measurement:
    """Measure a method on maps that are in memory."""
    maps, masks = np.empty((count, size, size), np.float32), np.empty((count, size, size), np.bool_)
    for index, (anomaly_map, mask) in enumerate(draw_samples(count, size)):
        maps[index], masks[index] = anomaly_map, mask
    before = peak_mib()
    seconds = []
    metrics = {}
    for _ in range(repeats):
        start = time.perf_counter()
        metrics = METHODS[method](maps, masks)
        seconds.append(time.perf_counter() - start)
    return Measurement(statistics.median(seconds), rise_above(before), metrics)


def run_on_stream(counts: PixelCounts, count: int, size: int) -> Measurement:
    """Measure counts on maps that come one by one, as from a model; the time includes drawing."""
    for anomaly_map, mask in draw_samples(1, size):
        sort_pixels(anomaly_map, mask)  # the memory for one map is not that of the counts
    before, start = peak_mib(), time.perf_counter()
    for anomaly_map, mask in draw_samples(count, size):
        counts.add(sort_pixels(anomaly_map, mask).pixels)
    metrics = flatten(pixel_metrics(counts.ranking(), fpr_limit=FPR_LIMIT))
    return Measurement(time.perf_counter() - start, rise_above(before), metrics)


def measure(method: str, count: int, size: int, repeats: int = 1) -> Measurement:
    """Run one method in a fresh process."""
    numbers = [str(number) for number in (count, size, repeats)]
    command = [sys.executable, str(Path(__file__)), "--job", method, *numbers]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Measurement(*json.loads(output))


def run_job(method: str, count: int, size: int, repeats: int) -> None:
    """Print the measurement of one method as JSON."""
    if method in METHODS:
        print(json.dumps(run_on_arrays(method, count, size, repeats)))
    else:
        print(json.dumps(run_on_stream(ONE_BY_ONE[method](), count, size)))


def print_table(count: int, size: int, repeats: int, path: Path | None) -> None:
    """Run everything and print it; the ratios say how many times as much as ours.

    Args:
        count: number of maps.
        size: their side in pixels.
        repeats: runs of each method.
        path: JSON file to add the rows to.
    """
    few = count // 4
    print(f"{count} maps of {size} x {size}, 3% anomalous, log-normal; median of {repeats} runs")
    results = {method: measure(method, count, size, repeats) for method in METHODS}
    ours = results["exact"]
    table = Table("metrics", ("method", "seconds", "MiB", "x time", "x MiB"), path)
    for method, name in {
        "exact": "exact: AUROC, AP, best F1, best IoU, AU-PRO",
        "streaming": "streaming: the same",
        "sklearn": "scikit-learn roc_auc_score: AUROC alone",
        "argsort": "float argsort and cumsum: AU-PRO alone",
        "regionprops": f"{THRESHOLDS} x regionprops: AU-PRO alone (from {THRESHOLDS_RUN})",
    }.items():
        times = THRESHOLDS // THRESHOLDS_RUN if method == "regionprops" else 1
        seconds, added = results[method].seconds * times, results[method].added_mib
        table.add(name, seconds, added, seconds / ours.seconds, added / ours.added_mib)
    table.save()
    columns = ("added MiB, maps one by one", f"{few} maps", f"{count} maps", "ratio")
    table = Table("memory of metrics", columns, path)
    for method in ONE_BY_ONE:
        low, high = (measure(method, number, size).added_mib for number in (few, count))
        table.add(method, low, high, high / low)
    table.save()
    print_agreement(results, path)


def print_agreement(results: dict[str, Measurement], path: Path | None) -> None:
    """How far the methods are from each other."""
    exact, streaming = results["exact"].metrics, results["streaming"].metrics
    auroc = exact["pixel_auroc"] - results["sklearn"].metrics["pixel_auroc"]
    aupro = exact["aupro"] - results["argsort"].metrics["aupro"]
    print(f"\nAUROC {exact['pixel_auroc']:.8f}, scikit-learn differs by {abs(auroc):.1e}")
    print(f"AU-PRO {exact['aupro']:.8f}, argsort differs by {abs(aupro):.1e}")
    table = Table("errors of streaming", ("metric", "error", "bound"), path)
    for name in PixelMetrics._fields:
        if f"bound_{name}" in exact:
            error = abs(streaming[name] - exact[name])
            table.add(name, error, streaming[f"bound_{name}"])
    table.save()


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 maps of 128 x 128")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to add the rows to")
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        method, *numbers = options.job
        run_job(method, *map(int, numbers))
    elif options.quick:
        print_table(20, 128, options.repeats, options.json)
    else:
        print_table(83, 512, options.repeats, options.json)


if __name__ == "__main__":
    main()
