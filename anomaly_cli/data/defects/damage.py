"""Synthetic damage to the form of a part: missing pieces, dents, swellings, shifted parts."""

import math

import cv2
import numpy as np

from anomaly_cli.data.defects.canvas import Canvas, Change, ColourField, add_light, blend
from anomaly_cli.data.defects.regions import Region, draw_blob, draw_region
from anomaly_cli.data.defects.shapes import (
    Box,
    Field,
    cloud_noise,
    light_relief,
    log_uniform,
    smoothstep,
)

INPAINT_SIDE = 40  # pixels; a larger box is filled at this size and enlarged
TRIALS = 8  # places that are compared to find the background


def draw_missing(canvas: Canvas) -> Change:
    """Replace a part by the background, another place, its surroundings or a void."""
    generator = canvas.generator
    region = draw_region(canvas.shape, canvas.centre, generator, smallest=0.02)
    ground = canvas.ground(region.box)
    # In a texture there is no background, and another place differs only along its edge.
    places = (0.0, 0.4) if canvas.foreground is None else (2.0, 1.0)
    variant = canvas.draw_one_of(*places, 1, 0.7)
    if variant == 2:
        filled = _inpaint(ground, region)
    elif variant == 3:
        filled = _open_void(canvas, region.box)
    else:
        filled = _copy_place(canvas, region.box, wants_background=variant == 0)
    cover = smoothstep(region.cover(canvas.unit * log_uniform(generator, 1, 3)))
    drawn = blend(ground, filled, cover)
    edge = light_relief(cover, angle=generator.uniform(0, math.tau), width=0.7 * canvas.unit)
    strength = generator.uniform(0, 15) + 35 * canvas.contrast * generator.random()
    return Change(region.box, add_light(drawn, np.float32(strength) * edge))


def _copy_place(canvas: Canvas, box: Box, *, wants_background: bool) -> ColourField:
    """Copy a random place of the image to fill the box, (h, w, 3).

    For the background, it is the one of `TRIALS` random places that has the least foreground.
    """
    generator, (height, width) = canvas.generator, box.shape
    trials = TRIALS if wants_background else 1
    tops = generator.integers(0, canvas.shape[0] - height, trials, endpoint=True).tolist()
    lefts = generator.integers(0, canvas.shape[1] - width, trials, endpoint=True).tolist()
    places = [
        Box(top, left, top + height, left + width) for top, left in zip(tops, lefts, strict=True)
    ]
    foreground = canvas.foreground
    if foreground is None or not wants_background:
        return canvas.ground(places[0])
    return canvas.ground(min(places, key=lambda place: np.count_nonzero(place.cut(foreground))))


def _open_void(canvas: Canvas, box: Box) -> ColourField:
    """Fill the box with a blurred void: nearly black, nearly white, or the image's mean colour."""
    level = (canvas.generator.uniform(0, 30), canvas.generator.uniform(225, 255), None)[
        canvas.draw_one_of(2, 1, 1)
    ]
    colour = cv2.mean(canvas.image)[:3] if level is None else (level,) * 3
    haze = 4 * cloud_noise(box.shape, canvas.generator, cells=3)
    return add_light(np.full((*box.shape, 3), colour, np.float32), haze)


def _inpaint(ground: ColourField, region: Region) -> ColourField:
    """Fill a region of the ground from its surroundings."""
    height, width = ground.shape[:2]
    shrink = min(1.0, INPAINT_SIDE / max(height, width))
    size = (max(4, round(width * shrink)), max(4, round(height * shrink)))
    small = cv2.resize(ground, size, interpolation=cv2.INTER_AREA)
    distance = cv2.resize(region.distance, size, interpolation=cv2.INTER_LINEAR)
    hidden = (distance > -1).astype(np.uint8)
    levels = cv2.convertScaleAbs(small)
    filled = cv2.inpaint(levels, hidden, 3, cv2.INPAINT_TELEA)
    large = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)


def draw_deform(canvas: Canvas) -> Change:
    """Press in, swell, twist or shift the ground, or shatter it into facets."""
    generator = canvas.generator
    if generator.random() < 0.3:
        return _shatter(canvas)
    radius = max(4.0, min(canvas.shape) * log_uniform(generator, 0.03, 0.178))
    region = draw_blob(canvas.shape, canvas.centre, radius, generator)
    weight = smoothstep(region.distance / np.float32(region.radius * generator.uniform(0.2, 0.9)))
    drawn = _warp(canvas, region, weight)
    relief = light_relief(weight, angle=generator.uniform(0, math.tau), width=0.1 * region.radius)
    is_dent = generator.random() < 0.5
    strength = (10 + 35 * canvas.contrast) if is_dent else 0
    return Change(region.box, add_light(drawn, np.float32(strength) * relief))


def _shatter(canvas: Canvas) -> Change:
    """Shatter the ground into facets, as of broken glass: each is shifted and lit differently."""
    generator = canvas.generator
    region = draw_region(canvas.shape, canvas.centre, generator, smallest=0.03)
    box, (height, width) = region.box, region.box.shape
    count = int(generator.integers(4, 14))
    seeds = (generator.random((count, 2)) * (width, height)).astype(np.float32)
    x, y = (axis.astype(np.float32) for axis in np.meshgrid(np.arange(width), np.arange(height)))
    # A little noise bends the edges of the facets.
    bend = np.float32(0.15 * region.radius) * cloud_noise(box.shape, generator, cells=5)
    apart = [(x + bend - sx) ** 2 + (y - bend - sy) ** 2 for sx, sy in seeds]
    facet = np.argmin(np.stack(apart), axis=0)
    shift = generator.normal(0, 0.6 * region.radius + 2, (count, 2)).astype(np.float32)
    moved = cv2.remap(
        canvas.image,
        x + np.float32(box.left) + shift[facet, 0],
        y + np.float32(box.top) + shift[facet, 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    light = generator.normal(0, 8 + 35 * canvas.contrast, count).astype(np.float32)
    drawn = add_light(np.asarray(moved, np.float32), light[facet])
    return Change(box, blend(canvas.ground(box), drawn, region.cover(1.5)))


def _warp(canvas: Canvas, region: Region, weight: Field) -> ColourField:
    generator, box = canvas.generator, region.box
    x, y = box.offsets(canvas.centre)
    x, y = np.broadcast_to(x, box.shape), np.broadcast_to(y, box.shape)
    force = np.float32(generator.choice((-1, 1)) * (0.2 + 0.5 * canvas.contrast)) * weight
    variant = canvas.draw_one_of(1, 1, 1)
    if variant == 0:  # towards the centre, or away from it
        new_x, new_y = x * (1 + force), y * (1 + force)
    elif variant == 1:  # twisted
        cosine, sine = np.cos(3 * force), np.sin(3 * force)
        new_x, new_y = cosine * x - sine * y, sine * x + cosine * y
    else:  # shifted
        angle = generator.uniform(0, math.tau)
        reach = np.float32(0.8 * region.radius) * force
        new_x, new_y = x + reach * math.cos(angle), y + reach * math.sin(angle)
    moved = cv2.remap(
        canvas.image,
        np.asarray(new_x + np.float32(canvas.centre[0]), np.float32),
        np.asarray(new_y + np.float32(canvas.centre[1]), np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(moved, np.float32)
