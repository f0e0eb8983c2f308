"""Coarse defects: large, strong foreign pieces anywhere, of little likeness to any real defect.

They teach a network faster what normal is than natural-looking defects do, many of which are small
or faint (docs/decisions/0010): foreign ground shows it every place with something else in it.
"""

import math

import cv2
import numpy as np

from anomaly_cli.data.defects.canvas import (
    Change,
    ColourField,
    DefectKind,
    Sources,
    SyntheticDefect,
    add_light,
    blend,
)
from anomaly_cli.data.defects.visibility import apply_change, is_monochrome
from anomaly_cli.data.shapes import Box, Field
from anomaly_cli.images import RGBImage, resize_image

STROKE_SHARE = 0.3  # of the coarse defects; the others are pieces of ground
BORDER_SHARE = 0.1  # of the pieces; these reach in from a side of the image
SMALLEST, LARGEST = 0.03, 0.4  # radii of the others, shares of the short side, all equally likely
INVERTED_SHARE = 0.2  # of the pieces
_ORIGINS = {"erased": 0.15, "donor": 0.25, "normal": 0.6}
_WORKING_SIDE = 128  # pixels; outlines are drawn at this size, and enlarged


def draw_coarse(
    image: RGBImage, sources: Sources, generator: np.random.Generator
) -> SyntheticDefect | None:
    """Draw one coarse defect into a copy of `image` (H, W, 3); None if it cannot be seen.

    Its kind is `scratch` or `patch`.
    """
    shape = (image.shape[0], image.shape[1])
    if generator.random() < STROKE_SHARE:
        kind, cover = DefectKind.SCRATCH, _draw_stroke(shape, generator)
        colours = generator.uniform(0, 255, 3 if generator.random() < 0.3 else 1)
        drawn = np.broadcast_to(colours.astype(np.float32), image.shape)
    else:
        at_border = generator.random() < BORDER_SHARE
        cover = (_draw_border if at_border else _draw_area)(shape, generator)
        kind, drawn = DefectKind.PATCH, _draw_ground(image, sources, generator)
    softness = min(shape) / _WORKING_SIDE * generator.uniform(0.3, 1.5)
    soft = np.asarray(cv2.GaussianBlur(cover, (0, 0), softness), np.float32)
    soft *= np.float32(generator.uniform(0.5, 1))
    rows, columns = np.flatnonzero(soft.any(axis=1)), np.flatnonzero(soft.any(axis=0))
    if not len(rows):
        return None
    box = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    changed = blend(np.asarray(box.cut(image), np.float32), box.cut(drawn), box.cut(soft))
    return apply_change(image, Change(box, changed), kind, is_grey=is_monochrome(image))


def _draw_stroke(shape: tuple[int, int], generator: np.random.Generator) -> Field:
    """A random walk of a few corners."""
    side = min(shape)
    start = generator.uniform(0, 1, 2) * shape[::-1]
    steps = generator.normal(0, 0.06 * side, (int(generator.integers(3, 8)), 2))
    path = np.rint(start + np.cumsum(steps, axis=0)).astype(np.int32)
    breadth = max(1, round(int(generator.integers(1, 4)) * side / _WORKING_SIDE))
    cover = np.zeros(shape, np.float32)
    cv2.polylines(cover, [path], False, (1.0,), breadth)
    return cover


def _draw_area(shape: tuple[int, int], generator: np.random.Generator) -> Field:
    """An ellipse, or what a ragged cloud leaves of it."""
    height, width = shape
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    x, y = x - generator.uniform(0, width), y - generator.uniform(0, height)
    angle, radius = generator.uniform(0, math.pi), generator.uniform(SMALLEST, LARGEST)
    radius *= min(shape)
    along, across = _turn(x, y, angle)
    inside = np.square(along / radius) + np.square(across / (radius * generator.uniform(0.25, 1)))
    cover = np.asarray(inside < 1, np.float32)
    if generator.random() < 0.5:
        cells = int(generator.integers(3, 9))
        cloud = _cloud(shape, cells, generator)
        cover *= cloud > _quantile(cloud, generator.uniform(0.7, 0.93))
    return cover


def _draw_border(shape: tuple[int, int], generator: np.random.Generator) -> Field:
    """Everything beyond a wavy line: a piece that reaches in from a side or a corner."""
    height, width = shape
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    along, _across = _turn(x - width / 2, y - height / 2, generator.uniform(0, math.tau))
    waves = min(shape) * generator.uniform(0, 0.05)
    depth = along + np.float32(waves) * _cloud(shape, 4, generator)
    return np.asarray(depth > _quantile(depth, 1 - generator.uniform(0.03, 0.35)), np.float32)


def _turn(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return cosine * x + sine * y, cosine * y - sine * x


def _cloud(shape: tuple[int, int], cells: int, generator: np.random.Generator) -> Field:
    """Smooth noise of unit variance."""
    grid = generator.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _quantile(field: Field, share: float) -> float:
    """About the quantile; a sixteenth of the pixels tell it."""
    return float(np.quantile(field[::4, ::4], share))


def _draw_ground(image: RGBImage, sources: Sources, generator: np.random.Generator) -> ColourField:
    """What shows in the piece, (H, W, 3): foreign ground, or the own one without its texture."""
    origins = {name: share for name, share in _ORIGINS.items() if _has(name, sources)}
    shares = np.cumsum(list(origins.values()))
    origin = list(origins)[int(np.searchsorted(shares, generator.random() * shares[-1]))]
    if origin == "erased":
        ground = _erase(image, generator)
    else:
        images = sources.donors if origin == "donor" else sources.normals
        ground = _place(images[int(generator.integers(len(images)))], image.shape, generator)
    # Never as it is: in a texture, a piece of another normal image could not be told from normal.
    gain, offset = generator.uniform(0.6, 1.5), generator.uniform(-50, 50)
    ground = ground * np.float32(gain) + np.float32(offset)
    if generator.random() < INVERTED_SHARE:
        ground = 255 - ground
    return ground


def _has(origin: str, sources: Sources) -> bool:
    return {"donor": len(sources.donors) > 0, "normal": len(sources.normals) > 0}.get(origin, True)


def _erase(image: RGBImage, generator: np.random.Generator) -> ColourField:
    """The own ground, smeared until its structure is gone, with a little grain."""
    height, width = image.shape[:2]
    sigma = generator.uniform(0.03, 0.12) * _WORKING_SIDE
    small = resize_image(image, _WORKING_SIDE, _WORKING_SIDE)
    smeared = cv2.GaussianBlur(small, (0, 0), sigma)
    strength = np.float32(generator.uniform(0, 8))
    grain = strength * generator.standard_normal((height, width), np.float32)
    return add_light(np.asarray(cv2.resize(smeared, (width, height)), np.float32), grain)


def _place(source: RGBImage, shape: tuple[int, ...], generator: np.random.Generator) -> ColourField:
    """A foreign image, turned, resized and shifted, at the size of the image."""
    height, width = shape[:2]
    if source.shape[:2] != (height, width):
        source = resize_image(source, height, width)
    angle, zoom = generator.uniform(0, 360), generator.uniform(0.6, 1.6)
    matrix = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom), float)
    matrix[:, 2] += generator.uniform(-0.4, 0.4, 2) * (width, height)
    placed = cv2.warpAffine(source, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(placed, np.float32)
