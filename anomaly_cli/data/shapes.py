"""Random shapes of natural look, as float fields: blobs, strokes, cloud noise, light on relief."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # (H, W)

REFERENCE_SIDE = 256  # pixels; the short side of an image for which stroke widths are given
STROKE_STEPS = 48  # straight pieces of a stroke
SUPERSAMPLING = 4  # strokes are drawn this much larger, for widths between whole pixels


class Blob(NamedTuple):
    """An irregular patch of ground."""

    distance: Field  # roughly the pixels to the edge, positive inside
    radius: float  # pixels


def pixel_unit(shape: tuple[int, int]) -> float:
    """Pixels of an image of this height and width for one pixel of the reference size."""
    return min(shape) / REFERENCE_SIDE


def draw_blob(
    shape: tuple[int, int], generator: np.random.Generator, *, smallest: float, largest: float
) -> Blob:
    """Draw a noise-shaped blob of random place, size, stretch and turn.

    Args:
        shape: height and width of the field.
        generator: the only source of randomness.
        smallest: least radius, as a share of the short side.
        largest: greatest radius; small ones are likelier than large ones.
    """
    height, width = shape
    radius = max(2.5, min(shape) * log_uniform(generator, smallest, largest))
    reach = 1.8  # radii; as far as the noise can carry the edge
    side = math.ceil(2 * reach * radius)
    y, x = np.mgrid[-reach : reach : side * 1j, -reach : reach : side * 1j].astype(np.float32)
    bumps = generator.uniform(0.25, 0.6) * cloud_noise((side, side), generator, cells=4)
    stretch = log_uniform(generator, 0.6, 1.6)
    angle = generator.uniform(0, math.tau)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turn *= [[stretch], [1 / stretch]]
    move = generator.uniform(0.04, 0.96, 2) * (width, height) - turn @ (side / 2, side / 2)
    field = cv2.warpAffine(
        1 - np.hypot(x, y) + bumps,
        np.column_stack([turn, move]),
        (width, height),
        borderValue=(1 - reach,),
    )
    return Blob(np.asarray(field, np.float32) * radius, radius)


def draw_strokes(shape: tuple[int, int], count: int, generator: np.random.Generator) -> Field:
    """Draw bending strokes of uneven width and pressure near each other, in [0, 1]."""
    height, width = shape
    large = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    centre = generator.uniform(0.04, 0.96, 2) * (width, height)
    heading = generator.uniform(0, math.tau)
    for _ in range(count):
        place = centre + generator.normal(0, 0.06 * min(shape), 2)
        _draw_stroke(large, place * SUPERSAMPLING, heading + generator.normal(0, 0.2), generator)
    strokes = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(strokes, np.float32) / np.float32(255)


def _draw_stroke(
    picture: NDArray[np.uint8],
    centre: NDArray[np.float64],
    heading: float,
    generator: np.random.Generator,
) -> None:
    side = min(picture.shape)
    length = side * log_uniform(generator, 0.08, 0.8)
    directions = heading + generator.uniform(0, 0.9) * _draw_course(generator)
    steps = np.stack([np.cos(directions), np.sin(directions)], axis=1) * (length / STROKE_STEPS)
    path = np.cumsum(steps, axis=0)
    points = np.rint(path + (centre - path.mean(axis=0))).astype(int).tolist()
    breadth = max(0.8 * SUPERSAMPLING, side / REFERENCE_SIDE * log_uniform(generator, 0.9, 4.0))
    taper = np.sqrt(np.sin(np.linspace(0.05, math.pi - 0.05, STROKE_STEPS)))
    widths = np.rint(breadth * taper * (1 + 0.4 * _draw_course(generator))).clip(1).astype(int)
    pressure = (255 * (0.75 + 0.5 * _draw_course(generator)).clip(0.1, 1)).tolist()
    for step in range(STROKE_STEPS - 1):
        cv2.line(picture, points[step], points[step + 1], (pressure[step],), int(widths[step]))


def _draw_course(generator: np.random.Generator) -> NDArray[np.float64]:
    """Smooth random course along a stroke, in [-1, 1]."""
    knots = generator.uniform(-1, 1, (1, 5))
    course = cv2.resize(knots, (STROKE_STEPS, 1), interpolation=cv2.INTER_CUBIC)[0]
    return np.asarray(course, np.float64).clip(-1, 1)


def cloud_noise(shape: tuple[int, int], generator: np.random.Generator, *, cells: int) -> Field:
    """Cloud-like noise, mostly in [-1, 1], of `cells` bumps a side with finer ones on top."""
    noise = np.zeros(shape, np.float32)
    for octave in range(4):
        grid = generator.uniform(-1, 1, (cells << octave,) * 2).astype(np.float32)
        noise += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return noise


def light_relief(height: Field, *, angle: float, width: float) -> Field:
    """Light from the side on the slopes of `height`, scaled to reach 1 or -1.

    Args:
        height: the relief.
        angle: where the light comes from, in radians.
        width: how wide a step is lit, in pixels.
    """
    smooth = cv2.GaussianBlur(height, (0, 0), max(0.4, width))
    slope_x, slope_y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    light = math.cos(angle) * slope_x + math.sin(angle) * slope_y
    return np.asarray(light / max(1e-6, float(np.abs(light).max())), np.float32)


def smoothstep(value: Field) -> Field:
    """0 below 0, 1 above 1, and a smooth ramp between."""
    ramp = value.clip(0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)


def log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """Draw so that every factor is equally likely: small values more often than large ones."""
    return math.exp(generator.uniform(math.log(low), math.log(high)))
