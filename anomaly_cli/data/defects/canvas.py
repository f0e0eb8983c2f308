"""What a defect is drawn from, and what comes out; colours of a piece of ground."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.defects.shapes import Box, Field, Point, pixel_unit
from anomaly_cli.files.images import Mask, RGBImage

ColourField = NDArray[np.float32]  # (h, w, 3), levels around [0, 255]


class DefectKind(StrEnum):
    """What kind of defect is drawn; the value is the name of the defect type."""

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
    """An image with a defect, and where it differs from the normal one."""

    image: RGBImage  # (H, W, 3) uint8
    mask: Mask  # (H, W) bool: exactly the pixels that differ
    kind: DefectKind


class Sources(NamedTuple):
    """Images that pieces are taken from."""

    donors: Sequence[RGBImage] = ()  # other textures, of any size
    normals: Sequence[RGBImage] = ()  # other normal images of the category


class Canvas(NamedTuple):
    """What one defect is drawn from."""

    image: RGBImage  # (H, W, 3), the normal one
    is_grey: bool  # whether its channels are equal
    foreground: Mask | None  # (H, W); None: the object fills the image
    centre: Point  # where the defect is to lie
    contrast: float  # in [0, 1]: 0 barely visible, 1 obvious
    sources: Sources
    generator: np.random.Generator

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def unit(self) -> float:
        """Pixels for one pixel of an image of 256."""
        return pixel_unit(self.shape)

    def ground(self, box: Box) -> ColourField:
        """The normal image inside the box."""
        return np.asarray(box.cut(self.image), np.float32)

    def draw_one_of(self, *weights: float) -> int:
        """The number of a variant, as likely as its weight."""
        chosen = np.searchsorted(np.cumsum(weights), self.generator.random() * sum(weights))
        return int(chosen)

    def draw_colour(self) -> NDArray[np.float32]:
        """Any colour, (3,); a grey one for a grey image."""
        if self.is_grey:
            return np.full(3, self.generator.uniform(0, 255), np.float32)
        return self.generator.uniform(0, 255, 3).astype(np.float32)


class Change(NamedTuple):
    """New levels for a box of the image."""

    box: Box
    drawn: ColourField  # (h, w, 3) of the box


def contrasting_sign(ground: ColourField, weight: Field, generator: np.random.Generator) -> int:
    """-1 to darken or 1 to brighten: the brighter the ground there, the likelier -1."""
    level = float(mean_colour(ground, weight).mean())
    return -1 if generator.random() * 255 < level else 1


def mean_colour(image: ColourField, weight: Field) -> NDArray[np.float32]:
    """Mean colour where `weight` is noticeable, (3,)."""
    return np.array(cv2.mean(image, mask=(weight > 0.1).astype(np.uint8))[:3], np.float32)


def as_colour(field: Field) -> ColourField:
    """(h, w) -> (h, w, 3); quicker than broadcasting over an axis of length 3."""
    return np.asarray(cv2.merge([field] * 3), np.float32)


def add_light(image: ColourField, light: Field) -> ColourField:
    """The same light on all channels."""
    return image + as_colour(light)


def blend(ground: ColourField, drawn: ColourField, cover: Field) -> ColourField:
    """`drawn` where `cover` is 1, `ground` where it is 0."""
    return ground + as_colour(cover) * (drawn - ground)
