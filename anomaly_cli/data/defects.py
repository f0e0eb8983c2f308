"""Natural-looking defects drawn into normal images, each with the exact mask of what changed.

Sizes are shares of the image's short side, so that one setting serves 64 to 1024 pixels. Size and
contrast are drawn anew each time, from obvious to barely visible.
"""

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.shapes import (
    Field,
    cloud_noise,
    draw_blob,
    draw_strokes,
    light_relief,
    log_uniform,
    pixel_unit,
    smoothstep,
)
from anomaly_cli.images import Mask, RGBImage, resize_image

MIN_DIFFERENCE = 4  # grey levels of the most changed channel; fainter changes are undone
MIN_AREA = 8  # pixels; a smaller defect is drawn again, at another place and with more contrast
ATTEMPTS = 24

ColourField = NDArray[np.float32]  # (H, W, 3), levels around [0, 255]


class DefectKind(StrEnum):
    """What kind of defect is drawn; the value is the name of the defect type."""

    SCRATCH = "scratch"
    STAIN = "stain"
    HOLE = "hole"
    PATCH = "patch"


class SyntheticDefect(NamedTuple):
    """An image with a defect, and where it differs from the normal one."""

    image: RGBImage  # (H, W, 3) uint8
    mask: Mask  # (H, W) bool: exactly the pixels that differ
    kind: DefectKind


class _Canvas(NamedTuple):
    """What a defect is drawn from."""

    ground: ColourField  # the normal image
    donors: Sequence[RGBImage]
    contrast: float  # in [0, 1]: 0 barely visible, 1 obvious
    generator: np.random.Generator

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.ground.shape[0], self.ground.shape[1]


def draw_random_defect(
    image: RGBImage, *, donors: Sequence[RGBImage], generator: np.random.Generator
) -> SyntheticDefect:
    """Draw a defect of any kind, all equally likely; no patch where there is no donor."""
    kinds = [kind for kind in DefectKind if donors or kind is not DefectKind.PATCH]
    kind = kinds[int(generator.integers(len(kinds)))]
    return draw_defect(image, kind=kind, donors=donors, generator=generator)


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
        kind: what to draw.
        donors: images of other textures, of any size, from which a patch is taken.
        generator: the only source of randomness.

    Raises:
        ValueError: a patch is wanted and there is no donor, or the image is of a few pixels only.
    """
    if kind is DefectKind.PATCH and not donors:
        raise ValueError("a patch needs at least one donor image")
    ground = image.astype(np.float32)
    contrast = generator.random()
    for _ in range(ATTEMPTS):
        drawn = _DRAWERS[kind](_Canvas(ground, donors, contrast, generator))
        defect = _keep_visible(image, drawn, kind)
        if np.count_nonzero(defect.mask) >= MIN_AREA:
            return defect
        contrast = min(1.0, contrast + 0.2)
    raise ValueError(f"no {kind} can be seen in an image of shape {image.shape}")


def _keep_visible(image: RGBImage, drawn: ColourField, kind: DefectKind) -> SyntheticDefect:
    """Undo what is too faint to see, and close pinholes, so that mask and change are one.

    A pinhole is a pixel inside the defect whose new value happens to be near the old one; an
    annotator would not leave it out, so it is changed by the smallest visible difference.
    """
    if _is_grey(image):  # a monochrome camera sees no coloured defect
        drawn = _as_colour(np.asarray(cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)))
    # OpenCV rounds, cuts off at 255 and copies by mask many times faster than numpy.
    changed = cv2.convertScaleAbs(np.maximum(drawn, 0))
    faint = (MIN_DIFFERENCE - 1,) * 3
    visible = np.asarray(cv2.inRange(cv2.absdiff(changed, image), (0, 0, 0), faint)) == 0
    width = 2 * max(1, round(pixel_unit(visible.shape))) + 1
    kernel = np.ones((width, width), np.uint8)
    closed = cv2.morphologyEx(visible.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    mask = visible | (np.asarray(closed) > 0)
    old = image[mask > visible]
    changed[mask > visible] = np.where(old < 128, old + MIN_DIFFERENCE, old - MIN_DIFFERENCE)
    changed = cv2.copyTo(changed, mask.astype(np.uint8), image.copy())
    return SyntheticDefect(np.asarray(changed, np.uint8), mask, kind)


def _is_grey(image: RGBImage) -> bool:
    red, green, blue = (image[..., channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(green, blue)


def _draw_scratch(canvas: _Canvas) -> ColourField:
    """One to three thin strokes of much the same direction, with a lit and a shaded rim."""
    generator = canvas.generator
    count = int(generator.choice((1, 1, 1, 2, 3)))
    groove = draw_strokes(canvas.shape, count, generator)
    tone = _contrasting_sign(canvas, groove) * (28 + 92 * canvas.contrast)
    rim = light_relief(
        groove, angle=generator.uniform(0, math.tau), width=0.4 * pixel_unit(canvas.shape)
    )
    return _add(canvas.ground, tone * groove + (5 + 30 * canvas.contrast) * rim)


def _draw_stain(canvas: _Canvas) -> ColourField:
    """A soft, mottled blob that dyes the ground or bleaches it; the ground shows through."""
    generator = canvas.generator
    blob = draw_blob(canvas.shape, generator, smallest=0.05, largest=0.28)
    softness = blob.radius * generator.uniform(0.15, 0.8)
    density = smoothstep(blob.distance / softness)
    density *= 0.8 + 0.25 * cloud_noise(canvas.shape, generator, cells=6)
    # Drying drives the dye outwards, which leaves a ring.
    ring = np.exp(-np.square((blob.distance - 0.3 * softness) / (0.2 * softness)))
    density += generator.uniform(0, 0.5) * ring * (blob.distance > 0)
    dye = (0.25 + 0.5 * canvas.contrast) * generator.uniform(0.6, 1.0, 3)
    absorbed = cv2.merge([density.clip(0, 1.2) * strength for strength in dye.tolist()])
    kept = 1 - np.asarray(absorbed, np.float32)
    if _contrasting_sign(canvas, density) < 0:
        return canvas.ground * kept
    return 255 - (255 - canvas.ground) * kept


def _draw_hole(canvas: _Canvas) -> ColourField:
    """A pit with a crisp, chipped edge: darker with depth, one wall lit, the other in shadow."""
    generator, unit = canvas.generator, pixel_unit(canvas.shape)
    blob = draw_blob(canvas.shape, generator, smallest=0.015, largest=0.12)
    inside = np.asarray((blob.distance / unit + 0.5).clip(0, 1), np.float32)
    depth = smoothstep(blob.distance / (blob.radius * generator.uniform(0.3, 0.9)))
    kept = 1 - inside * (0.3 + 0.3 * canvas.contrast) - depth * (0.1 + 0.25 * canvas.contrast)
    grain = 12 * inside * cloud_noise(canvas.shape, generator, cells=24)
    angle = generator.uniform(0, math.tau)
    rim = light_relief(inside, angle=angle, width=unit * generator.uniform(0.6, 1.2))
    wall = inside * light_relief(depth, angle=angle, width=0.15 * blob.radius)
    shade = (10 + 40 * canvas.contrast) * rim + (10 + 25 * canvas.contrast) * wall
    return _add(canvas.ground * _as_colour(kept), grain + shade)


def _draw_patch(canvas: _Canvas) -> ColourField:
    """A piece of another texture with a blended, irregular border and a faint shadow."""
    generator, unit = canvas.generator, pixel_unit(canvas.shape)
    blob = draw_blob(canvas.shape, generator, smallest=0.04, largest=0.28)
    cover = smoothstep(blob.distance / (unit * log_uniform(generator, 1, 8)) + 0.5)
    donor = canvas.donors[int(generator.integers(len(canvas.donors)))]
    texture = _foreign_texture(canvas, donor)
    # With low contrast the piece takes on the brightness of its surroundings.
    texture += (_mean(canvas.ground, cover) - _mean(texture, cover)) * (1 - canvas.contrast)
    texture += _contrasting_sign(canvas, cover) * generator.uniform(0, 30) * canvas.contrast
    drawn = canvas.ground + _as_colour(cover) * (texture - canvas.ground)
    shadow = light_relief(cover, angle=generator.uniform(0, math.tau), width=1.5 * unit)
    return _add(drawn, (4 + 20 * canvas.contrast) * shadow)


_DRAWERS: dict[DefectKind, Callable[[_Canvas], ColourField]] = {
    DefectKind.SCRATCH: _draw_scratch,
    DefectKind.STAIN: _draw_stain,
    DefectKind.HOLE: _draw_hole,
    DefectKind.PATCH: _draw_patch,
}


def _foreign_texture(canvas: _Canvas, donor: RGBImage) -> ColourField:
    """Cut a turned and resized piece of the donor, of the size of the canvas."""
    generator, (height, width) = canvas.generator, canvas.shape
    zoom = min(height, width) / min(donor.shape[:2]) * generator.uniform(0.8, 1.8)
    sides = [max(2, round(side * zoom)) for side in donor.shape[:2]]
    centre = generator.random(2) * sides[::-1]
    turn = cv2.getRotationMatrix2D(centre.tolist(), generator.uniform(0, 360), 1.0)
    turn[:, 2] += (width / 2, height / 2) - centre
    resized = resize_image(donor, sides[0], sides[1])
    cut = cv2.warpAffine(resized, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(cut, np.float32)


def _contrasting_sign(canvas: _Canvas, weight: Field) -> int:
    """-1 to darken or 1 to brighten: the brighter the ground there, the likelier -1."""
    level = float(_mean(canvas.ground, weight).mean())
    return -1 if canvas.generator.random() * 255 < level else 1


def _mean(image: ColourField, weight: Field) -> NDArray[np.float32]:
    """Mean colour where `weight` is noticeable, (3,)."""
    return np.array(cv2.mean(image, mask=(weight > 0.1).astype(np.uint8))[:3], np.float32)


def _as_colour(field: Field) -> ColourField:
    """(H, W) -> (H, W, 3); quicker than broadcasting over an axis of length 3."""
    return np.asarray(cv2.merge([field] * 3), np.float32)


def _add(image: ColourField, light: Field) -> ColourField:
    return image + _as_colour(light)
