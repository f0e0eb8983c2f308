"""Render the sprites of dSprites from their factors.

The official images are binary rasters of one polygon, not antialiased. Outlines and centres are
those that fit the published sample images best; docs/dsprites.md lists the differences left.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

IMAGE_SIZE = 64  # pixels, square
SCALES = np.linspace(0.5, 1.0, 6)
ORIENTATIONS = np.linspace(0.0, 2 * np.pi, 40)  # radians; the last equals the first
CENTRES = 15.5 + 32 * np.linspace(0.0, 1.0, 32)  # pixels, both across and down

_REACH = 13.6  # pixels; no outline goes farther from its centre
_ROWS = 28  # pixel rows that cover 2 * _REACH wherever the centre lies
_CROSSINGS = 4  # a row enters and leaves a heart twice at most
_NOWHERE = 127  # pixels; an edge right of every image
_FIRST_ROWS = np.ceil(CENTRES - _REACH).astype(np.int64)  # (32,)


def outlines() -> tuple[NDArray[np.float64], ...]:
    """Compute the corners of the square, the ellipse and the heart.

    Returns:
        Shape (V, 2) each: pixels right of and below the centre, at scale 1 and orientation 0.
    """
    square = 9.6 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
    turn = _turn(64)
    ellipse = np.stack([12.78 * np.cos(turn), 7.22 * np.sin(turn)], axis=1)
    turn = _turn(150)
    lobes = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    heart = np.stack([9.6 * np.sin(turn) ** 3, -0.6621 * lobes - 1.442], axis=1)
    return square, ellipse, heart


def _turn(steps: int) -> NDArray[np.float64]:
    return np.linspace(0.0, 2 * np.pi, steps, endpoint=False)


def draw_sprites(factors: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw sprites by their factor values: (B, 5) -> (B, 64, 64) uint8, 0 or 1.

    Only the rows that a sprite can cover are drawn. A pixel is inside the outline if the number of
    crossings at it or left of it is odd. The table of crossings (21 MB) is computed at the first
    call, in half a second.

    Args:
        factors: shape, scale, orientation, x and y, each as an index from 0.
    """
    shape, scale, orientation, x, y = factors.T
    edges = crossings()[shape, scale, orientation, y] + CENTRES[x, None, None]
    first_in = np.ceil(edges).clip(0, _NOWHERE).astype(np.int8)[..., None]  # (B, rows, 4, 1)
    columns = np.arange(IMAGE_SIZE, dtype=np.int8)
    is_in = first_in[:, :, 0] <= columns
    for crossing in range(1, _CROSSINGS):
        is_in ^= first_in[:, :, crossing] <= columns
    images = np.zeros((len(factors), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    rows = _FIRST_ROWS[y, None] + np.arange(_ROWS)
    images[np.arange(len(factors))[:, None], rows] = is_in
    return images


@cache
def crossings() -> NDArray[np.float64]:
    """Compute where pixel rows cross the outlines, in pixels right of the centre.

    Returns:
        Shape (3, 6, 40, 32, rows, 4): shape, scale, orientation, vertical position, pixel row, and
        up to four crossings, ascending; infinite where there are fewer. Read-only.
    """
    heights = _FIRST_ROWS[:, None] + np.arange(_ROWS) - CENTRES[:, None]  # (32, rows)
    table = np.stack([
        np.stack([
            np.stack([
                _cross(scale * _rotate(outline, angle), heights.ravel()) for angle in ORIENTATIONS
            ])
            for scale in SCALES
        ])
        for outline in outlines()
    ])  # fmt: skip
    table = table.reshape(*table.shape[:3], *heights.shape, _CROSSINGS)
    table.setflags(write=False)
    return table


def _rotate(outline: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rotate points (V, 2) by an angle, counterclockwise on a screen whose rows go downwards."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(outline @ np.array([[cosine, -sine], [sine, cosine]]), np.float64)


def _cross(outline: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute where horizontal lines (R,) cross a polygon (V, 2).

    Returns:
        Shape (R, 4), ascending; infinite where there are fewer than four crossings.
    """
    start, end = outline, np.roll(outline, -1, axis=0)
    # A corner on a line counts as above it, so that every line crosses an even number of edges.
    is_above = start[:, 1] <= heights[:, None]  # (R, V)
    line, edge = np.nonzero(is_above != np.roll(is_above, -1, axis=1))
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    across = start[edge, 0] + slope * (heights[line] - start[edge, 1])
    order = np.lexsort((across, line))
    rank = np.arange(line.size) - np.searchsorted(line, line)
    found = np.full((heights.size, _CROSSINGS), np.inf)
    found[line, rank] = across[order]
    return found
