"""Foreign pieces as synthetic defects: cut from another texture, normal image or place."""

import math

import cv2
import numpy as np

from anomaly_cli.data.defects.canvas import (
    Canvas,
    Change,
    ColourField,
    add_light,
    blend,
    contrasting_sign,
    mean_colour,
)
from anomaly_cli.data.defects.regions import Region, draw_region
from anomaly_cli.data.defects.shapes import Box, light_relief, log_uniform, smoothstep
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.resize import resize_image

POISSON_SHARE = 0.35  # share of the patches with Poisson blending
POISSON_SIDE = 128  # pixels; a larger box is feathered, because the solver is slow
ENLARGED = 1.5  # a source whose short side exceeds the image's by more than this factor is shrunk


def draw_patch(canvas: Canvas) -> Change:
    """Set a turned, resized and recoloured foreign piece in, feathered or by Poisson blending."""
    generator, unit = canvas.generator, canvas.unit
    region = draw_region(canvas.shape, canvas.centre, generator)
    ground = canvas.ground(region.box)
    piece = _recolour(canvas, _take_piece(canvas, region.box))
    if generator.random() < POISSON_SHARE and max(region.box.shape) <= POISSON_SIDE:
        return Change(region.box, _blend_gradients(ground, piece, region))
    cover = smoothstep(region.cover(unit * log_uniform(generator, 1, 8)))
    # At low contrast, the piece takes on the mean colour of its surroundings.
    likeness = np.float32(1 - canvas.contrast)
    piece = piece + (mean_colour(ground, cover) - mean_colour(piece, cover)) * likeness
    sign = contrasting_sign(ground, cover, generator)
    piece = piece + np.float32(sign * generator.uniform(0, 30) * canvas.contrast)
    opacity = 1.0 if generator.random() < 0.6 else generator.uniform(0.3, 1)
    drawn = blend(ground, piece, cover * np.float32(opacity))
    if generator.random() < 0.5:
        return Change(region.box, drawn)
    shadow = light_relief(cover, angle=generator.uniform(0, math.tau), width=1.5 * unit)
    return Change(region.box, add_light(drawn, (4 + 20 * canvas.contrast) * shadow))


def _take_piece(canvas: Canvas, box: Box) -> ColourField:
    """Cut a piece of the box's size from a random place of a random source, turned and resized."""
    generator, (height, width) = canvas.generator, canvas.shape
    source = _draw_source(canvas)
    side = min(source.shape[:2])
    if side > ENLARGED * min(height, width):  # to avoid aliasing
        shrink = min(height, width) / side
        source = resize_image(source, *(max(2, round(n * shrink)) for n in source.shape[:2]))
        side = min(source.shape[:2])
    zoom = min(height, width) / side * log_uniform(generator, 0.8, 1.8)
    place = generator.random(2) * source.shape[1::-1]
    turn = np.array(
        cv2.getRotationMatrix2D(place.tolist(), generator.uniform(0, 360), zoom), np.float64
    )
    turn[:, 2] += np.array(box.shape[::-1]) / 2 - place
    if generator.random() < 0.5:
        turn[0] = [-turn[0, 0], -turn[0, 1], box.shape[1] - turn[0, 2]]
    cut = cv2.warpAffine(source, turn, box.shape[::-1], borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(cut, np.float32)


def _draw_source(canvas: Canvas) -> RGBImage:
    """Draw the source of a piece: another texture, another normal image, or the image itself."""
    donors, normals = canvas.sources
    # In a texture, a piece of the same texture is foreign only along its seam.
    alike = 1.0 if canvas.foreground is not None else 0.3
    is_alone = not donors and not normals
    weights = (0.45 * bool(donors), 0.4 * alike * bool(normals), 0.15 * alike * bool(normals))
    chosen = 2 if is_alone else canvas.draw_one_of(*weights)
    if chosen == 2:
        return canvas.image
    images = (donors, normals)[chosen]
    return images[int(canvas.generator.integers(len(images)))]


def _recolour(canvas: Canvas, piece: ColourField) -> ColourField:
    """Change gain and offset, in a third of the cases separately for each channel."""
    generator = canvas.generator
    spread = 0.5 * canvas.contrast
    gain = np.exp(generator.normal(0, 0.35 * spread, 3 if generator.random() < 0.35 else 1))
    offset = generator.normal(0, 50 * spread, len(gain))
    return np.asarray((piece - 128) * gain.astype(np.float32) + 128 + offset.astype(np.float32))


def _blend_gradients(ground: ColourField, piece: ColourField, region: Region) -> ColourField:
    """Blend a piece by its gradients (Poisson): it keeps its texture, with the border's levels."""
    mask = np.zeros(ground.shape[:2], np.uint8)
    mask[1:-1, 1:-1] = region.distance[1:-1, 1:-1] > 0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if min(len(rows), len(columns)) < 3:
        return blend(ground, piece, region.cover(1.0))
    centre = (int(columns[0] + columns[-1] + 1) // 2, int(rows[0] + rows[-1] + 1) // 2)
    levels = [cv2.convertScaleAbs(np.maximum(image, 0)) for image in (piece, ground)]
    cloned = cv2.seamlessClone(levels[0], levels[1], mask * np.uint8(255), centre, cv2.NORMAL_CLONE)
    return np.asarray(cloned, np.float32)
