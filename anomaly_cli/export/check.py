"""Comparison of an exported detector with the one that it was made of."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly_cli.data.photographs import Split, draw_normal
from anomaly_cli.detector.detector import Detector
from anomaly_cli.errors import OutputError
from anomaly_cli.export.formats import Compute
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image

TOLERANCE = 1e-3  # largest difference of two maps, in terms of the range of all maps
# Largest share of the pixels whose masks differ. A region that hangs on one pixel may come or go.
_MASKS = 0.05
_SIZES = ((100, 100), (130, 97), (257, 257), (341, 512), (630, 401), (64, 300))  # of drawn images

NamedImage = tuple[str, RGBImage]


class ImageCheck(NamedTuple):
    """Comparison of the results for one image."""

    name: str
    difference: float  # largest difference of the maps
    place: tuple[int, int]  # row and column where it is
    low: float  # least value of the map
    high: float  # largest value of the map: the score
    found: float  # score of the exported detector
    is_flipped: bool  # whether the verdicts differ
    masks: float  # share of the pixels whose masks differ


class CheckResult(NamedTuple):
    """Comparison of the results for all images."""

    images: int
    difference: float  # largest difference of two maps, in terms of the range of all maps
    masks: float  # largest share of the pixels of an image whose masks differ


def check_export(compute: Compute, detector: Detector, images: Iterable[NamedImage]) -> CheckResult:
    """Compare the results of an exported detector with those of the original.

    The first images are also computed together, at the size of the first one.

    Args:
        compute: the exported detector.
        detector: the original.
        images: one or more, with their names.

    Raises:
        OutputError: a verdict differs, a map by more than `TOLERANCE`, or a mask in more than a
            twentieth of its pixels.
    """
    checks: list[ImageCheck] = []
    first: list[NamedImage] = []
    for name, image in images:
        checks += _compare(compute, detector, [(name, image)])
        if len(first) < 3:
            size = first[0][1].shape[:2] if first else image.shape[:2]
            first.append((f"{name} in a batch", resize_image(image, *size)))
    checks += _compare(compute, detector, first)
    spread = max(check.high for check in checks) - min(check.low for check in checks)
    for check in checks:
        if check.is_flipped:
            raise OutputError(
                f"export changes the verdict of {check.name}: score {check.high:.6g} becomes "
                f"{check.found:.6g}, threshold {detector.threshold.value:.6g}; nothing is written"
            )
        if not check.difference <= TOLERANCE * spread:
            raise OutputError(
                f"export changes the map of {check.name} by {check.difference:.3g} at row "
                f"{check.place[0]}, column {check.place[1]}, more than {TOLERANCE:g} of the range "
                f"{spread:.3g}; nothing is written"
            )
        if check.masks > _MASKS:
            raise OutputError(
                f"export changes the mask of {check.name} in {check.masks:.0%} of its pixels; "
                f"nothing is written"
            )
    return CheckResult(
        len(checks) - len(first),
        max(check.difference for check in checks) / max(spread, np.finfo(float).tiny),
        max(check.masks for check in checks),
    )


def _compare(compute: Compute, detector: Detector, images: list[NamedImage]) -> list[ImageCheck]:
    """Compare the results of a batch of images of one size."""
    found = compute(np.stack([image for _name, image in images]))
    checks = []
    for place, (name, image) in enumerate(images):
        expected = detector.predict(image)
        difference = np.abs(found["map"][place] - expected.anomaly_map)
        row, column = np.unravel_index(int(difference.argmax()), difference.shape)
        checks.append(
            ImageCheck(
                name,
                float(difference[row, column]),
                (int(row), int(column)),
                float(expected.anomaly_map.min()),
                expected.score,
                float(found["score"][place]),
                bool(found["verdict"][place]) != expected.is_anomalous,
                float(np.mean(found["mask"][place] != expected.mask)),
            )
        )
    return checks


def read_images(paths: Iterable[Path]) -> Iterator[NamedImage]:
    """Read images, with their paths as names.

    Raises:
        DataError: one cannot be read.
    """
    for path in paths:
        yield str(path), read_image(path)


def draw_images(side: int) -> Iterator[NamedImage]:
    """Draw images of several sizes from a photograph, some with a coloured square.

    Args:
        side: of the network's input, which is one of the sizes.
    """
    generator = np.random.default_rng(0)
    for place, (height, width) in enumerate([*_SIZES, (side, side)]):
        crop = draw_normal("gravel", split=Split.TEST, image_size=256, generator=generator)
        image = resize_image(crop, height, width)
        if place % 2:
            image[height // 3 : height // 2, width // 3 : width // 2] = (250, 20, 20)
        yield f"drawn image {place} ({height} x {width})", image
