"""Thin marks: bent strokes of uneven pressure, and jagged cracks with branches."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.defects.shapes import Box, Field, Point, box_around, log_uniform, pixel_unit

STEPS = 32  # points along a stroke
SUPERSAMPLING = 4  # strokes are drawn this much larger, for widths between whole pixels
MIN_BREADTH = 0.8  # pixels

Path = NDArray[np.float64]  # (n, 2) points x, y


class Stroke(NamedTuple):
    """A line of changing width and pressure."""

    path: Path
    widths: NDArray[np.float64]  # (n,) pixels
    pressure: NDArray[np.float64]  # (n,) in [0, 1]


class Marks(NamedTuple):
    """Strokes drawn into a box of the image."""

    box: Box
    strength: Field  # (h, w) of the box, in [0, 1]


def draw_strokes(
    shape: tuple[int, int], centre: Point, count: int, generator: np.random.Generator
) -> Marks:
    """Draw bent strokes of similar direction near each other.

    Args:
        shape: height and width of the image.
        centre: place of the strokes.
        count: number of strokes.
        generator: the only source of randomness.
    """
    side = min(shape)
    heading = generator.uniform(0, math.tau)
    strokes = []
    for number in range(count):
        shift = generator.normal(0, 0.05 * side, 2) if number else (0.0, 0.0)
        place = (centre[0] + float(shift[0]), centre[1] + float(shift[1]))
        length = side * log_uniform(generator, 0.05, 0.7)
        path = draw_path(place, length, generator, heading=heading + generator.normal(0, 0.2))
        breadth = max(MIN_BREADTH, pixel_unit(shape) * log_uniform(generator, 0.9, 4.0))
        taper = np.sqrt(np.sin(np.linspace(0.05, math.pi - 0.05, STEPS)))
        widths = breadth * taper * (1 + 0.4 * draw_course(generator))
        gaps = generator.uniform(0.1, 0.9)  # how strongly the pressure varies; gaps where it is low
        pressure = (1 - gaps / 2 + gaps * draw_course(generator)).clip(0, 1)
        strokes.append(Stroke(path, widths, pressure))
    return _rasterise(shape, strokes)


def draw_cracks(shape: tuple[int, int], centre: Point, generator: np.random.Generator) -> Marks:
    """Draw one or two jagged cracks with branches, or several that start from a point of impact."""
    side, unit = min(shape), pixel_unit(shape)
    breadth = max(MIN_BREADTH, unit * log_uniform(generator, 0.8, 3.5))
    is_impact = generator.random() < 0.3
    rays = int(generator.integers(3, 8)) if is_impact else int(generator.integers(1, 3))
    heading = generator.uniform(0, math.tau)
    strokes: list[Stroke] = []
    length = side * log_uniform(generator, 0.05, 0.35)
    for ray in range(rays):
        turn = math.tau * ray / rays + generator.normal(0, 0.3)
        reach = length * generator.uniform(0.5, 1.3)
        path = _draw_jagged(centre, heading + turn, reach, generator)
        strokes.append(_taper(path, breadth))
        for _ in range(int(generator.integers(0, 3))):
            start = path[int(generator.integers(len(path) // 4, len(path) - 1))]
            fork = heading + turn + generator.choice((-1, 1)) * generator.uniform(0.3, 1.2)
            origin = (float(start[0]), float(start[1]))
            branch = _draw_jagged(origin, fork, reach * generator.uniform(0.2, 0.6), generator)
            strokes.append(_taper(branch, 0.7 * breadth))
    return _rasterise(shape, strokes)


def draw_path(
    centre: Point, length: float, generator: np.random.Generator, *, heading: float | None = None
) -> Path:
    """Draw a smoothly bent line of `length` pixels around `centre`, (32, 2)."""
    if heading is None:
        heading = generator.uniform(0, math.tau)
    directions = heading + generator.uniform(0, 0.9) * draw_course(generator)
    steps = np.stack([np.cos(directions), np.sin(directions)], axis=1) * (length / STEPS)
    path = np.cumsum(steps, axis=0)
    return np.asarray(path + (centre - path.mean(axis=0)))


def draw_course(generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw a smooth random curve along a stroke, (32,) in [-1, 1]."""
    knots = generator.uniform(-1, 1, (1, 5))
    course = cv2.resize(knots, (STEPS, 1), interpolation=cv2.INTER_CUBIC)[0]
    return np.asarray(course, np.float64).clip(-1, 1)


def _draw_jagged(
    start: Point, heading: float, length: float, generator: np.random.Generator
) -> Path:
    """Draw straight pieces with kinks; each varies around `heading`, so that the crack advances."""
    count = int(generator.integers(5, 12))
    turns = heading + generator.normal(0, generator.uniform(0.2, 0.7), count)
    pieces = generator.uniform(0.4, 1.6, count) * (length / count)
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * pieces[:, None]
    return np.asarray(np.concatenate([[start], start + np.cumsum(steps, axis=0)]))


def _taper(path: Path, breadth: float) -> Stroke:
    """Build a stroke that is widest and strongest at its start."""
    thinning = np.linspace(1, 0.35, len(path))
    return Stroke(path, breadth * thinning, 0.5 + 0.5 * thinning)


def _rasterise(shape: tuple[int, int], strokes: Sequence[Stroke]) -> Marks:
    points = np.concatenate([stroke.path for stroke in strokes])
    border = max(float(stroke.widths.max()) for stroke in strokes) + 3
    low, high = points.min(axis=0) - border, points.max(axis=0) + border
    box = box_around(shape, (float(low[0]), float(low[1])), (float(high[0]), float(high[1])))
    # Thin lines in small boxes need the full supersampling; large boxes show no steps at 2.
    scale = SUPERSAMPLING if max(box.shape) <= 200 else 2
    height, width = box.shape
    large = np.zeros((height * scale, width * scale), np.uint8)
    for stroke in strokes:
        place = np.rint((stroke.path - (box.left, box.top)) * scale).astype(int).tolist()
        widths = np.rint(stroke.widths * scale).clip(1).astype(int).tolist()
        levels = np.rint(255 * stroke.pressure).astype(int).tolist()
        for step in range(len(place) - 1):
            cv2.line(large, place[step], place[step + 1], (levels[step],), widths[step])
    small = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    return Marks(box, np.asarray(small, np.float32) / np.float32(255))
