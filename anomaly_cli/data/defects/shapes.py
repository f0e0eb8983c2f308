"""Building blocks of natural shapes: boxes of an image, cloud noise, lit relief, smooth ramps."""

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # (h, w), often for a box of the image alone
Point = tuple[float, float]  # x (right) and y (down) in pixels

REFERENCE_SIDE = 256  # pixels; short side of the image for which widths are given


class Box(NamedTuple):
    """A rectangle of whole pixels. A defect is computed inside its box alone, which is fast."""

    top: int
    left: int
    bottom: int  # exclusive
    right: int  # exclusive

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """Cut the part inside the box from an array (H, W) or (H, W, C), as a view."""
        return array[self.top : self.bottom, self.left : self.right]

    def offsets(self, centre: Point) -> tuple[Field, Field]:
        """Compute pixels to the right of and below `centre`: (1, w) and (h, 1)."""
        x = np.arange(self.left, self.right, dtype=np.float32)[None] - np.float32(centre[0])
        y = np.arange(self.top, self.bottom, dtype=np.float32)[:, None] - np.float32(centre[1])
        return x, y


def box_around(shape: tuple[int, int], low: Point, high: Point) -> Box:
    """Build the box from `low` to `high`, clipped to the image, at least 2 x 2 pixels large."""
    height, width = shape
    left = min(max(0, math.floor(low[0])), width - 2)
    top = min(max(0, math.floor(low[1])), height - 2)
    right = max(left + 2, min(width, math.ceil(high[0]) + 1))
    bottom = max(top + 2, min(height, math.ceil(high[1]) + 1))
    return Box(top, left, bottom, right)


def pixel_unit(shape: tuple[int, int]) -> float:
    """Compute the pixels of an image (height, width) that make one pixel at the reference size."""
    return min(shape) / REFERENCE_SIDE


def cloud_noise(shape: tuple[int, int], generator: np.random.Generator, *, cells: int) -> Field:
    """Draw cloud-like noise, mostly in [-1, 1]: `cells` bumps per side, with finer ones on top."""
    noise = np.zeros(shape, np.float32)
    for octave in range(4):
        count = cells << octave
        if octave and count > max(shape):
            break  # finer than a pixel
        grid = generator.random((count, count), np.float32) * 2 - 1
        noise += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return noise


def light_relief(height: Field, *, angle: float, width: float) -> Field:
    """Light the slopes of a relief from the side.

    Args:
        height: the relief, (h, w).
        angle: direction of the light, in radians.
        width: width over which a step is lit, in pixels.

    Returns:
        Shape (h, w) in [-1, 1]; the greatest absolute value is 1 unless the relief is flat.
    """
    smooth = cv2.GaussianBlur(height, (0, 0), max(0.4, width))
    slope_x, slope_y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    light = math.cos(angle) * slope_x + math.sin(angle) * slope_y
    return np.asarray(light / max(1e-6, float(np.abs(light).max())), np.float32)


def smoothstep(value: Field) -> Field:
    """Map values below 0 to 0, above 1 to 1, and those between to a smooth ramp."""
    ramp = value.clip(0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)


def log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """Draw a value in [low, high] of uniform logarithm; small values are more frequent."""
    return math.exp(generator.uniform(math.log(low), math.log(high)))
