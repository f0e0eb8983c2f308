"""Time of a synthetic defect by kind, in milliseconds of one core and in augmentations.

    python benchmarks/defects.py [--data DATA --category NAME] [--count N]

Without --data, on drawn bricks. Guided training paints half of its images, so a painted image may
cost a fifth of a training step; the bars are 4 ms at 128 px and 12 ms at 256 px.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from measure import Table

from anomaly_cli.data.defects import WEIGHTS, DefectKind, DefectPainter, TrainingPainter
from anomaly_cli.data.mvtec import training_images
from anomaly_cli.data.photographs import Split, draw_normal
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image
from anomaly_cli.training.augmentation import Augmentation, augment

NORMALS = 24
BARS = {128: 4.0, 256: 12.0}  # ms by side


def load_normals(options: argparse.Namespace, size: int) -> list[RGBImage]:
    """Read or draw some normal images (size, size, 3)."""
    if options.data is None:
        generator = np.random.default_rng(0)
        return [
            draw_normal("brick", split=Split.TRAIN, image_size=size, generator=generator)
            for _ in range(NORMALS)
        ]
    paths = training_images(options.data, options.category)[:NORMALS]
    return [resize_image(read_image(path), size, size) for path in paths]


def milliseconds(function: Callable[[RGBImage], object], images: Sequence[RGBImage]) -> list[float]:
    """Processor time of each call; that of other programs does not count."""
    times = []
    for image in images:
        start = time.process_time()
        function(image)
        times.append(1000 * (time.process_time() - start))
    return times


def print_table(normals: Sequence[RGBImage], count: int, path: Path | None) -> None:
    """One row for each kind, their mean by weight, and the mixture of training.

    Args:
        normals: images of one size.
        count: defects of each kind.
        path: JSON file to add the rows to.
    """
    size = len(normals[0])
    painter = DefectPainter(normals)
    images = [normals[number % len(normals)] for number in range(count)]
    generator = np.random.default_rng(0)
    turned = Augmentation(rotation=45, translation=0.04)
    unit = float(np.mean(milliseconds(lambda image: augment(image, turned, generator), images)))
    print(f"\n{size} px, one core; an augmentation takes {unit:.2f} ms")
    columns = ("kind", "mean ms", "slowest of 100 ms", "augmentations")
    table = Table(f"defects of {size} px", columns, path)
    mean = 0.0
    for kind in DefectKind:
        times = milliseconds(lambda image: painter(image, generator, kind=kind), images)  # noqa: B023 - called at once
        table.add(str(kind), *_summary(times, unit))
        mean += WEIGHTS[kind] * float(np.mean(times)) / sum(WEIGHTS.values())
    table.add("all, by weight", mean, "-", mean / unit)
    mixture = TrainingPainter(painter)
    times = milliseconds(lambda image: mixture(image, generator), images)
    mean = float(np.mean(times))
    table.add("image of training", *_summary(times, unit))
    table.save()
    if size in BARS:
        print(f"\nbar: {BARS[size]:.0f} ms, {'met' if mean <= BARS[size] else 'MISSED'}")


def _summary(times: Sequence[float], unit: float) -> tuple[float, float, float]:
    mean = float(np.mean(times))
    return mean, float(np.quantile(times, 0.99)), mean / unit


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--count", type=int, default=100, help="defects of each kind")
    parser.add_argument("--json", type=Path, help="file to add the rows to")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for size in BARS:
        print_table(load_normals(options, size), options.count, options.json)


if __name__ == "__main__":
    main()
