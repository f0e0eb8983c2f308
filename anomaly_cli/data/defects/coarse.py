"""Coarse synthetic defects: large, strong foreign pieces anywhere, unlike most real defects.

A network learns normal images faster from them than from natural-looking defects, many of which
are small or faint (docs/decisions/0010): coarse defects show it every place with foreign content.
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
    blend,
)
from anomaly_cli.data.defects.shapes import Box, Field
from anomaly_cli.data.defects.visibility import apply_change
from anomaly_cli.files.images import RGBImage, is_monochrome
from anomaly_cli.files.resize import resize_image

STROKE_SHARE = 0.3  # share of strokes; the other coarse defects are foreign pieces
SMALLEST, LARGEST = 0.03, 0.4  # radii as shares of the short side, uniform
INVERTED_SHARE = 0.2  # share of the pieces with inverted colours
DONOR_SHARE = 0.3  # share of the pieces from donors; the others are from normal images
_WORKING_SIDE = 128  # pixels; short side for which breadths and softness are given


def draw_coarse(
    image: RGBImage, sources: Sources, generator: np.random.Generator
) -> SyntheticDefect | None:
    """Draw one coarse defect into a copy of `image` (H, W, 3); None if it is not visible.

    The kind of a stroke is `scratch`, and that of a foreign piece is `patch`.
    """
    shape = (image.shape[0], image.shape[1])
    if generator.random() < STROKE_SHARE:
        kind, cover = DefectKind.SCRATCH, _draw_stroke(shape, generator)
        colours = generator.uniform(0, 255, 3 if generator.random() < 0.3 else 1)
        drawn = np.broadcast_to(colours.astype(np.float32), image.shape)
    else:
        kind, cover = DefectKind.PATCH, _draw_area(shape, generator)
        drawn = _draw_ground(image, sources, generator)
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
    """Draw the cover (H, W) of a random walk with three to seven corners."""
    side = min(shape)
    start = generator.uniform(0, 1, 2) * shape[::-1]
    steps = generator.normal(0, 0.06 * side, (int(generator.integers(3, 8)), 2))
    path = np.rint(start + np.cumsum(steps, axis=0)).astype(np.int32)
    breadth = max(1, round(int(generator.integers(1, 4)) * side / _WORKING_SIDE))
    cover = np.zeros(shape, np.float32)
    cv2.polylines(cover, [path], False, (1.0,), breadth)
    return cover


def _draw_area(shape: tuple[int, int], generator: np.random.Generator) -> Field:
    """Draw the cover (H, W) of an ellipse, or of its overlap with a ragged cloud."""
    height, width = shape
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    x, y = x - generator.uniform(0, width), y - generator.uniform(0, height)
    angle, radius = generator.uniform(0, math.pi), generator.uniform(SMALLEST, LARGEST)
    radius *= min(shape)
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    along, across = cosine * x + sine * y, cosine * y - sine * x
    inside = np.square(along / radius) + np.square(across / (radius * generator.uniform(0.25, 1)))
    cover = np.asarray(inside < 1, np.float32)
    if generator.random() < 0.5:
        cells = int(generator.integers(3, 9))
        grid = generator.standard_normal((cells, cells), np.float32)
        cloud = cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC)
        # A sixteenth of the pixels is enough for the quantile.
        cover *= cloud > np.quantile(cloud[::4, ::4], generator.uniform(0.7, 0.93))
    return cover


def _draw_ground(image: RGBImage, sources: Sources, generator: np.random.Generator) -> ColourField:
    """Draw the content of a foreign piece (H, W, 3), in other colours than its source.

    In a texture, a piece of another normal image in its own colours would be normal.
    """
    images = sources.donors if generator.random() < DONOR_SHARE else sources.normals
    images = images if len(images) else [image]
    ground = _place(images[int(generator.integers(len(images)))], image.shape, generator)
    gain, offset = generator.uniform(0.6, 1.5), generator.uniform(-50, 50)
    ground = ground * np.float32(gain) + np.float32(offset)
    return 255 - ground if generator.random() < INVERTED_SHARE else ground


def _place(source: RGBImage, shape: tuple[int, ...], generator: np.random.Generator) -> ColourField:
    """Turn, resize and shift a foreign image within `shape`: (H, W, 3)."""
    height, width = shape[:2]
    if source.shape[:2] != (height, width):
        source = resize_image(source, height, width)
    angle, zoom = generator.uniform(0, 360), generator.uniform(0.6, 1.6)
    matrix = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom), float)
    matrix[:, 2] += generator.uniform(-0.4, 0.4, 2) * (width, height)
    placed = cv2.warpAffine(source, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(placed, np.float32)
