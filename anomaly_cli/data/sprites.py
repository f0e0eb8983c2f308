"""The sprites of dSprites, drawn from factors: outlines, and where each pixel row crosses them.

The official images are a binary raster of one polygon, not antialiased. Outlines and centres are
those that fit the published sample images best; docs/dsprites.md has what is left.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

IMAGE_SIZE = 64  # pixels, square
SCALES = np.linspace(0.5, 1.0, 6)
ORIENTATIONS = np.linspace(0.0, 2 * np.pi, 40)  # radians; the last is the first again
CENTRES = 15.5 + 32 * np.linspace(0.0, 1.0, 32)  # pixels, both across and down

_REACH = 13.6  # pixels; no outline goes farther from its centre
_ROWS = 28  # pixel rows that cover 2 * _REACH wherever the centre lies
_CROSSINGS = 4  # a row enters and leaves a heart twice at most
_NOWHERE = 127  # pixels; an edge right of every image
_FIRST_ROWS = np.ceil(CENTRES - _REACH).astype(np.int64)  # (32,)


def outlines() -> tuple[NDArray[np.float64], ...]:
    """Corners of the square, the ellipse and the heart, each (V, 2): pixels across and down.

    At scale 1 and orientation 0, around the centre of the sprite.
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
    """Images of sprites by their factor values: (B, 5) -> (B, 64, 64), 0 or 1.

    Only the rows that a sprite can reach are drawn: a pixel is in where the number of crossings at
    it or left of it is odd. Their table (21 MB) is made at the first call, in half a second.

    Args:
        factors: shape, scale, orientation, x and y as indices into the values above.
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
    """Where pixel rows cross the outline, in pixels right of its centre, ascending.

    Returns:
        Shape (3, 6, 40, 32, rows, 4): shape, scale, orientation, vertical position, pixel row, and
        up to four crossings; infinite where there are fewer. Read-only.
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
    """Turn points so that positive angles go against the clock on the screen, rows downwards."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(outline @ np.array([[cosine, -sine], [sine, cosine]]), np.float64)


def _cross(outline: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut a polygon (V, 2) by horizontal lines (R,): crossings (R, 4), ascending, then infinity."""
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
