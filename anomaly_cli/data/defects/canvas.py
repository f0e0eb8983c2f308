"""Input and result of drawing a synthetic defect, and operations on colours."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.defects.shapes import Box, Field, Point, pixel_unit
from anomaly_cli.files.images import Mask, RGBImage

ColourField = NDArray[np.float32]  # (h, w, 3), grey levels, which may lie outside [0, 255]


class DefectKind(StrEnum):
    """Kind of a synthetic defect; the value is the name of the defect type."""

    SCRATCH = "scratch"  # thin strokes, fibres
    CUT = "cut"  # cracks with branches
    HOLE = "hole"  # pits, blowholes
    STAIN = "stain"  # dyes, deposits
    PATCH = "patch"  # a foreign piece
    COLOUR = "colour"  # other brightness, contrast or hue
    TEXTURE = "texture"  # blurred, noisy, turned or scrambled ground
    MISSING = "missing"  # a part is gone
    DEFORM = "deform"  # dents, swellings, shifted parts


class SyntheticDefect(NamedTuple):
    """An image with a synthetic defect, and the mask of the changed pixels."""

    image: RGBImage  # (H, W, 3) uint8
    mask: Mask  # (H, W) bool: exactly the pixels that differ
    kind: DefectKind


class Sources(NamedTuple):
    """Images from which foreign pieces are cut."""

    donors: Sequence[RGBImage] = ()  # other textures, of any size
    normals: Sequence[RGBImage] = ()  # other normal images of the category


class Canvas(NamedTuple):
    """Input for drawing one defect."""

    image: RGBImage  # (H, W, 3) uint8, normal
    is_grey: bool  # whether the channels of the image are equal
    foreground: Mask | None  # (H, W); None: the object fills the image
    centre: Point  # where the defect is to lie
    contrast: float  # in [0, 1]: 0 barely visible, 1 obvious
    sources: Sources
    generator: np.random.Generator

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def unit(self) -> float:
        """Pixels of this image for one pixel of an image whose short side has 256."""
        return pixel_unit(self.shape)

    def ground(self, box: Box) -> ColourField:
        """Cut the normal image inside the box, (h, w, 3)."""
        return np.asarray(box.cut(self.image), np.float32)

    def draw_one_of(self, *weights: float) -> int:
        """Draw the index of a variant, with a probability proportional to its weight."""
        chosen = np.searchsorted(np.cumsum(weights), self.generator.random() * sum(weights))
        return int(chosen)

    def draw_colour(self) -> NDArray[np.float32]:
        """Draw a random colour (3,) in [0, 255]; a grey one for a grey image."""
        if self.is_grey:
            return np.full(3, self.generator.uniform(0, 255), np.float32)
        return self.generator.uniform(0, 255, 3).astype(np.float32)


class Change(NamedTuple):
    """New pixel values for a box of the image."""

    box: Box
    drawn: ColourField  # (h, w, 3) of the box


def contrasting_sign(ground: ColourField, weight: Field, generator: np.random.Generator) -> int:
    """Draw -1 to darken or 1 to brighten; the brighter the ground, the likelier is -1."""
    level = float(mean_colour(ground, weight).mean())
    return -1 if generator.random() * 255 < level else 1


def mean_colour(image: ColourField, weight: Field) -> NDArray[np.float32]:
    """Average the colour where `weight` exceeds 0.1: (3,)."""
    return np.array(cv2.mean(image, mask=(weight > 0.1).astype(np.uint8))[:3], np.float32)


def as_colour(field: Field) -> ColourField:
    """Repeat a field as (h, w, 3); faster than broadcasting over an axis of length 3."""
    return np.asarray(cv2.merge([field] * 3), np.float32)


def add_light(image: ColourField, light: Field) -> ColourField:
    """Add light (h, w) to all channels of an image (h, w, 3)."""
    return image + as_colour(light)


def blend(ground: ColourField, drawn: ColourField, cover: Field) -> ColourField:
    """Mix two images: `drawn` where `cover` is 1, `ground` where it is 0."""
    return ground + as_colour(cover) * (drawn - ground)
