"""Painters of synthetic defects of every kind, each with the exact mask of the changed pixels."""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from anomaly_cli.data.defects.canvas import (
    Canvas,
    Change,
    DefectKind,
    Sources,
    SyntheticDefect,
)
from anomaly_cli.data.defects.coarse import draw_coarse
from anomaly_cli.data.defects.damage import draw_deform, draw_missing
from anomaly_cli.data.defects.foreground import foreground_mask, has_foreground
from anomaly_cli.data.defects.ground import draw_colour, draw_texture
from anomaly_cli.data.defects.marks import draw_cut, draw_hole, draw_scratch, draw_stain
from anomaly_cli.data.defects.pieces import draw_patch
from anomaly_cli.data.defects.shapes import Point
from anomaly_cli.data.defects.visibility import apply_change
from anomaly_cli.data.photographs import load_donors
from anomaly_cli.files.images import Mask, RGBImage, is_monochrome
from anomaly_cli.files.resize import resize_image

MIN_SIDE = 32  # pixels
ATTEMPTS = 24  # to draw a visible defect, each at another place and with more contrast
AT_RIM = 0.5  # share of the missing parts that break off at the object's outline
ON_FOREGROUND = 0.9  # share of the defects that touch the object, where there is one

# Relative frequency of each kind. Foreign pieces are the most varied, so they are drawn most often.
# Deformations change least of what a detector sees, so they are drawn least often.
WEIGHTS: Mapping[DefectKind, float] = {
    DefectKind.SCRATCH: 2,
    DefectKind.CUT: 2,
    DefectKind.HOLE: 2,
    DefectKind.STAIN: 3,
    DefectKind.PATCH: 4,
    DefectKind.COLOUR: 2,
    DefectKind.TEXTURE: 2,
    DefectKind.MISSING: 3,
    DefectKind.DEFORM: 1,
}

_DRAWERS: dict[DefectKind, Callable[[Canvas], Change]] = {
    DefectKind.SCRATCH: draw_scratch,
    DefectKind.CUT: draw_cut,
    DefectKind.HOLE: draw_hole,
    DefectKind.STAIN: draw_stain,
    DefectKind.PATCH: draw_patch,
    DefectKind.COLOUR: draw_colour,
    DefectKind.TEXTURE: draw_texture,
    DefectKind.MISSING: draw_missing,
    DefectKind.DEFORM: draw_deform,
}


def draw_defect(
    image: RGBImage,
    *,
    kind: DefectKind,
    donors: Sequence[RGBImage],
    generator: np.random.Generator,
) -> SyntheticDefect:
    """Draw one defect of random place, size and contrast into a copy of a normal image.

    Args:
        image: the normal image, (H, W, 3) uint8.
        kind: kind of the defect.
        donors: images of other textures, of any size, from which a patch is taken.
        generator: the only source of randomness.

    Raises:
        ValueError: a patch has no donor, the image is smaller than 32 pixels, or no attempt gives a
            visible defect.
    """
    if kind is DefectKind.PATCH and not donors:
        raise ValueError("a patch needs at least one donor image")
    return _paint(image, kind, Sources(donors), None, generator)


class DefectPainter:
    """Painter of synthetic defects for the normal images of one category.

    It is fast enough to be used at every training step.

    Args:
        normals: some normal images (S, S, 3) of the category. Foreign pieces are cut from them, and
            they decide whether the category has a foreground. Without any, pieces are cut from
            `donors` or from the image itself.
        donors: other textures, of any size; None for the photographs that ship with scikit-image.
        weights: relative frequency of each kind; a kind without a weight is never drawn.
        on_foreground: share of the defects that touch the foreground, in [0, 1].
    """

    def __init__(
        self,
        normals: Sequence[RGBImage],
        donors: Sequence[RGBImage] | None = None,
        *,
        weights: Mapping[DefectKind, float] = WEIGHTS,
        on_foreground: float = ON_FOREGROUND,
    ) -> None:
        donors = load_donors("") if donors is None else donors
        self.sources = Sources([_shrink(donor, normals) for donor in donors], normals)
        self.kinds = list(weights)
        shares = np.array(list(weights.values()), float)
        self._cumulative = np.cumsum(shares) / shares.sum()
        self.on_foreground = on_foreground
        self.has_foreground = has_foreground(normals)

    def __call__(
        self,
        image: RGBImage,
        generator: np.random.Generator,
        *,
        kind: DefectKind | None = None,
    ) -> SyntheticDefect:
        """Draw one defect into a copy of `image` (H, W, 3) uint8.

        Args:
            image: a normal image, preferably of the size of `normals`.
            generator: the only source of randomness.
            kind: kind of the defect; None draws a kind at random, by weight.

        Raises:
            ValueError: the image is smaller than 32 pixels, or no attempt gives a visible defect.
        """
        if kind is None:
            kind = self.kinds[int(np.searchsorted(self._cumulative, generator.random()))]
        foreground = foreground_mask(image) if self.has_foreground else None
        is_anywhere = generator.random() >= self.on_foreground
        return _paint(image, kind, self.sources, foreground, generator, is_anywhere=is_anywhere)


COARSE_SHARE = 0.7  # share of coarse defects in training; the others are natural-looking
NUMBERS = (0.5, 0.3, 0.2)  # probability that a training image has one, two or three defects


class TrainingPainter:
    """Painter of defects for guided attention to learn from: one to three per image, mostly coarse.

    Args:
        natural: draws the natural-looking defects, and has the sources of foreign pieces.
    """

    def __init__(self, natural: DefectPainter) -> None:
        self.natural = natural

    def __call__(self, image: RGBImage, generator: np.random.Generator) -> SyntheticDefect:
        """Draw one to three defects into a copy of `image` (H, W, 3) uint8.

        The kind of the result is that of the first defect.

        Raises:
            ValueError: the image is smaller than 32 pixels, or no attempt gives a visible defect.
        """
        count = 1 + int(np.searchsorted(np.cumsum(NUMBERS)[:-1], generator.random()))
        first = self._draw(image, generator)
        painted = first.image
        for _ in range(count - 1):
            painted = self._draw(painted, generator).image
        return SyntheticDefect(painted, (painted != image).any(axis=2), first.kind)

    def _draw(self, image: RGBImage, generator: np.random.Generator) -> SyntheticDefect:
        if generator.random() < COARSE_SHARE:
            coarse = draw_coarse(image, self.natural.sources, generator)
            if coarse is not None:
                return coarse
        return self.natural(image, generator)


def _shrink(donor: RGBImage, normals: Sequence[RGBImage]) -> RGBImage:
    """Shrink a donor to about the size of the normal images, once for all patches."""
    if not len(normals):
        return donor
    scale = min(normals[0].shape[:2]) / min(donor.shape[:2])
    if scale >= 1:
        return donor
    return resize_image(donor, *(max(2, round(side * scale)) for side in donor.shape[:2]))


def _paint(
    image: RGBImage,
    kind: DefectKind,
    sources: Sources,
    foreground: Mask | None,
    generator: np.random.Generator,
    *,
    is_anywhere: bool = False,
) -> SyntheticDefect:
    """Draw until a defect is visible and touches the foreground, unless it may be anywhere."""
    if min(image.shape[:2]) < MIN_SIDE:
        raise ValueError(f"defects need images of at least {MIN_SIDE} pixels, got {image.shape}")
    is_grey = is_monochrome(image)
    touched = None if is_anywhere else foreground
    target = touched
    if kind is DefectKind.MISSING and touched is not None and generator.random() < AT_RIM:
        target = _find_rim(touched)
    contrast = generator.random()
    for _ in range(ATTEMPTS):
        centre = _draw_centre(image.shape[:2], target, generator)
        canvas = Canvas(image, is_grey, foreground, centre, contrast, sources, generator)
        defect = apply_change(image, _DRAWERS[kind](canvas), kind, is_grey=is_grey)
        if defect is not None and (touched is None or (defect.mask & touched).any()):
            return defect
        contrast = min(1.0, contrast + 0.2)
    raise ValueError(f"no {kind} can be seen in an image of shape {image.shape}")


def _find_rim(foreground: Mask) -> Mask:
    """Find the pixels along the outline of the foreground."""
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.morphologyEx(foreground.astype(np.uint8), cv2.MORPH_GRADIENT, kernel)) > 0


def _draw_centre(
    shape: tuple[int, int], target: Mask | None, generator: np.random.Generator
) -> Point:
    """Draw any pixel of the target, or without one, a place not quite at the image's edge."""
    height, width = shape
    places = np.flatnonzero(target) if target is not None else np.zeros(0, int)
    if len(places) == 0:  # also if the foreground has no outline, since it fills the image
        x, y = generator.uniform(0.02, 0.98, 2) * (width, height)
        return float(x), float(y)
    row, column = divmod(int(places[int(generator.integers(len(places)))]), width)
    return float(column), float(row)
