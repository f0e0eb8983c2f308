"""Regions of compact defects: blobs, shards, bands, fragments and clusters of random form."""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.defects.shapes import Box, Field, Point, box_around, cloud_noise, log_uniform
from anomaly_cli.data.defects.strokes import draw_path

SMALLEST, LARGEST = 0.0126, 0.178  # radii, shares of the short side: 0.05% and 10% of a square
MIN_RADIUS = 2.0  # pixels
MARGIN = 1.5  # least number of pixels between a region's edge and its box


class Region(NamedTuple):
    """An irregular piece of ground inside a box of the image."""

    box: Box
    distance: Field  # (h, w) of the box: roughly the pixels to the edge, positive inside
    radius: float  # pixels from the edge to the core

    def cover(self, softness: float) -> Field:
        """Compute the cover (h, w): 0 outside, 1 inside, linear over `softness` pixels between.

        A ramp wider than 3 pixels starts 1.5 pixels outside the edge, so it lies mostly inside.
        """
        shift = min(0.5, MARGIN / softness)
        return (self.distance / np.float32(softness) + np.float32(shift)).clip(0, 1)


def draw_region(
    shape: tuple[int, int],
    centre: Point,
    generator: np.random.Generator,
    *,
    smallest: float = SMALLEST,
    largest: float = LARGEST,
) -> Region:
    """Draw a region of random form around a place.

    Args:
        shape: height and width of the image.
        centre: place of the region.
        generator: the only source of randomness.
        smallest: least radius of a disc of the region's area, as a share of the short side.
        largest: greatest radius; its logarithm is uniform.
    """
    radius = max(MIN_RADIUS, min(shape) * log_uniform(generator, smallest, largest))
    form = _FORMS[int(generator.integers(len(_FORMS)))]
    return form(shape, centre, radius, generator)


def draw_blob(
    shape: tuple[int, int], centre: Point, radius: float, generator: np.random.Generator
) -> Region:
    """Draw one piece with a bumpy outline, now and then a smooth ellipse."""
    stretch = log_uniform(generator, 1, 1.8)
    bumps = 0.0 if generator.random() < 0.15 else generator.uniform(0.15, 0.6)
    reach = radius * stretch * (1 + 1.4 * bumps) + 2 * MARGIN
    box = _square(shape, centre, reach)
    rho = _stretched_distance(box, centre, stretch, generator) / np.float32(radius)
    field = 1 - rho
    if bumps:
        field += np.float32(bumps) * cloud_noise(box.shape, generator, cells=4)
        np.minimum(field, np.float32(1 + 1.4 * bumps) - rho, out=field)  # ends inside the box
    return Region(box, field * np.float32(radius), radius)


def draw_cluster(
    shape: tuple[int, int], centre: Point, radius: float, generator: np.random.Generator
) -> Region:
    """Draw two to seven small discs near each other, such as bubbles or splashes."""
    count = int(generator.integers(2, 8))
    small = max(0.75 * MIN_RADIUS, radius / math.sqrt(count))
    spread = small * generator.uniform(1.2, 4)
    box = _square(shape, centre, 1.6 * spread + 3 * small + 2 * MARGIN)
    field = np.full(box.shape, -2 * small - MARGIN, np.float32)
    for _ in range(count):
        place = _point(centre + generator.uniform(-1.6, 1.6, 2) * spread)
        size = small * log_uniform(generator, 0.5, 1.6)
        stretch = log_uniform(generator, 1, 1.5)
        disc = np.float32(size) - _stretched_distance(box, place, stretch, generator)
        np.maximum(field, disc, out=field)
    field += np.float32(0.25 * small) * cloud_noise(box.shape, generator, cells=8)
    return Region(box, field, small)


def draw_fragments(
    shape: tuple[int, int], centre: Point, radius: float, generator: np.random.Generator
) -> Region:
    """Draw ragged islands of noise that thin out from the centre, such as flakes or mould."""
    box = _square(shape, centre, 2 * radius + 3 * MARGIN)
    rho = _stretched_distance(box, centre, log_uniform(generator, 1, 2), generator)
    noise = cloud_noise(box.shape, generator, cells=int(generator.integers(5, 12)))
    field = np.float32(0.3) - np.float32(0.5 / radius) * rho + noise * np.float32(0.8)
    x, y = box.offsets(centre)
    np.minimum(field, 2 - np.sqrt(x * x + y * y) / np.float32(radius), out=field)
    return Region(box, field * np.float32(0.4 * radius), 0.4 * radius)


def draw_shard(
    shape: tuple[int, int], centre: Point, radius: float, generator: np.random.Generator
) -> Region:
    """Draw a polygon of three to eight corners, such as a chip or a splinter."""
    count = int(generator.integers(3, 9))
    angles = (np.arange(count) + generator.uniform(-0.4, 0.4, count)) * (math.tau / count)
    angles += generator.uniform(0, math.tau)
    reach = radius * generator.uniform(0.6, 1.7, count)
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None]
    corners[:, int(generator.integers(2))] *= generator.uniform(0.5, 1)
    corners += centre
    box = box_around(shape, _point(corners.min(axis=0) - 3), _point(corners.max(axis=0) + 3))
    filled = np.zeros(box.shape, np.uint8)
    fixed = np.rint((corners - (box.left, box.top)) * 16).astype(np.int32)
    cv2.fillPoly(filled, [fixed], (1,), shift=4)
    return Region(box, _signed_distance(filled), 0.5 * radius)


def draw_band(
    shape: tuple[int, int], centre: Point, radius: float, generator: np.random.Generator
) -> Region:
    """Draw a bent strip, such as a smear or a frayed edge."""
    length = radius * generator.uniform(3, 8)
    breadth = max(2.0, math.pi * radius**2 / length)
    path = draw_path(centre, length, generator)
    box = box_around(
        shape, _point(path.min(axis=0) - breadth - 2), _point(path.max(axis=0) + breadth + 2)
    )
    filled = np.zeros(box.shape, np.uint8)
    fixed = np.rint((path - (box.left, box.top)) * 16).astype(np.int32)
    cv2.polylines(filled, [fixed], False, (1,), max(1, round(breadth)), shift=4)
    field = _signed_distance(filled)
    ragged = generator.uniform(0, 0.3) * breadth
    field += np.float32(ragged) * cloud_noise(box.shape, generator, cells=12)
    return Region(box, field, 0.5 * breadth)


_Form = Callable[[tuple[int, int], Point, float, np.random.Generator], Region]
_FORMS: tuple[_Form, ...] = (
    draw_blob,
    draw_blob,
    draw_shard,
    draw_band,
    draw_fragments,
    draw_cluster,
)


def _square(shape: tuple[int, int], centre: Point, reach: float) -> Box:
    x, y = centre
    return box_around(shape, (x - reach, y - reach), (x + reach, y + reach))


def _stretched_distance(
    box: Box, centre: Point, stretch: float, generator: np.random.Generator
) -> Field:
    """Compute the elliptic distance to `centre` in pixels, for a random turn.

    Ellipses of equal distance have the area of a disc of that radius, whatever `stretch` is.
    """
    angle = generator.uniform(0, math.pi)
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    x, y = box.offsets(centre)
    along = (cosine * x + sine * y) / np.float32(stretch)
    across = (cosine * y - sine * x) * np.float32(stretch)
    return np.sqrt(along * along + across * across)


def _signed_distance(filled: NDArray[np.uint8]) -> Field:
    """Compute the distance in pixels to the edge of the area that is 1, positive inside."""
    inside = cv2.distanceTransform(filled, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(1 - filled, cv2.DIST_L2, 3)
    return np.asarray(inside - outside, np.float32)


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1])
