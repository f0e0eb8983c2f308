"""Synthetic defects on the ground or in it: scratches, cuts, holes, stains."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.defects.canvas import (
    Canvas,
    Change,
    ColourField,
    add_light,
    as_colour,
    blend,
    contrasting_sign,
)
from anomaly_cli.data.defects.regions import draw_region
from anomaly_cli.data.defects.shapes import (
    Field,
    cloud_noise,
    light_relief,
    log_uniform,
    smoothstep,
)
from anomaly_cli.data.defects.strokes import Marks, draw_cracks, draw_strokes


def draw_scratch(canvas: Canvas) -> Change:
    """Draw one to three thin strokes: grooves with a lit and a shaded rim, or fibres."""
    generator = canvas.generator
    count = (1, 2, 3)[canvas.draw_one_of(3, 1, 1)]
    marks = draw_strokes(canvas.shape, canvas.centre, count, generator)
    ground = canvas.ground(marks.box)
    if generator.random() < 0.25:
        return Change(marks.box, _lay_fibre(canvas, marks, ground))
    tone = contrasting_sign(ground, marks.strength, generator) * (20 + 100 * canvas.contrast)
    rim = light_relief(
        marks.strength, angle=generator.uniform(0, math.tau), width=0.4 * canvas.unit
    )
    light = tone * marks.strength + (5 + 30 * canvas.contrast) * rim
    return Change(marks.box, add_light(ground, light))


def _lay_fibre(canvas: Canvas, marks: Marks, ground: ColourField) -> ColourField:
    """Draw threads of any colour that cover the ground and cast a faint shadow."""
    shift = np.array([[1, 0, 1.5 * canvas.unit], [0, 1, 2 * canvas.unit]])
    shadow = cv2.warpAffine(marks.strength, shift, marks.box.shape[::-1])
    shaded = add_light(ground, -25 * canvas.contrast * np.asarray(shadow, np.float32))
    cover = marks.strength * np.float32(0.35 + 0.6 * canvas.contrast)
    return blend(shaded, np.broadcast_to(canvas.draw_colour(), ground.shape), cover)


def draw_cut(canvas: Canvas) -> Change:
    """Draw a jagged crack: mostly dark with lit edges, sometimes bright as in glass."""
    generator = canvas.generator
    marks = draw_cracks(canvas.shape, canvas.centre, generator)
    ground = canvas.ground(marks.box)
    depth = np.float32(0.3 + 0.6 * canvas.contrast) * marks.strength
    is_bright = generator.random() < 0.25
    target = np.full(ground.shape, 255 if is_bright else generator.uniform(0, 40), np.float32)
    angle = generator.uniform(0, math.tau)
    rim = light_relief(marks.strength, angle=angle, width=0.6 * canvas.unit)
    opened = blend(ground, target, depth)
    return Change(marks.box, add_light(opened, (4 + 30 * canvas.contrast) * rim))


def draw_hole(canvas: Canvas) -> Change:
    """Draw a pit with a crisp, chipped edge: darker with depth, one wall lit, the other shaded."""
    generator, unit = canvas.generator, canvas.unit
    region = draw_region(canvas.shape, canvas.centre, generator, largest=0.11)
    ground = canvas.ground(region.box)
    inside = region.cover(1.0)
    depth = smoothstep(region.distance / np.float32(region.radius * generator.uniform(0.3, 0.9)))
    kept = 1 - inside * (0.25 + 0.35 * canvas.contrast) - depth * (0.1 + 0.25 * canvas.contrast)
    grain = 12 * inside * cloud_noise(region.box.shape, generator, cells=24)
    angle = generator.uniform(0, math.tau)
    rim = light_relief(inside, angle=angle, width=unit * generator.uniform(0.6, 1.2))
    wall = inside * light_relief(depth, angle=angle, width=0.15 * region.radius)
    light = (8 + 40 * canvas.contrast) * rim + (8 + 25 * canvas.contrast) * wall
    shade = np.minimum(light, 0.5 * light)  # a pit has more shadow than light
    return Change(region.box, add_light(ground * as_colour(kept), grain + shade))


def draw_stain(canvas: Canvas) -> Change:
    """Draw a soft, mottled dye or bleach that shows the ground, or a deposit that hides it."""
    generator = canvas.generator
    region = draw_region(canvas.shape, canvas.centre, generator)
    ground = canvas.ground(region.box)
    if generator.random() < 0.4:
        cover = smoothstep(region.cover(canvas.unit * log_uniform(generator, 1, 4)))
        return Change(region.box, _lay_deposit(canvas, ground, cover))
    softness = np.float32(region.radius * generator.uniform(0.15, 0.8))
    density = smoothstep(region.distance / softness)
    density *= 0.8 + 0.25 * cloud_noise(region.box.shape, generator, cells=6)
    # A drying stain moves its dye outwards, which leaves a ring.
    ring = np.exp(-np.square((region.distance / softness - np.float32(0.3)) * 5))
    density += np.float32(generator.uniform(0, 0.5)) * ring * (region.distance > 0)
    dye = (0.2 + 0.55 * canvas.contrast) * generator.uniform(0.6, 1.0, 3)
    return Change(region.box, _dye(canvas, ground, density, dye))


def _dye(
    canvas: Canvas, ground: ColourField, density: Field, dye: NDArray[np.float64]
) -> ColourField:
    """Darken or bleach the ground; `dye` is the greatest share for each channel."""
    absorbed = cv2.merge([density.clip(0, 1.2) * strength for strength in dye.tolist()])
    kept = 1 - np.asarray(absorbed, np.float32)
    if contrasting_sign(ground, density, canvas.generator) < 0:
        return ground * kept
    return 255 - (255 - ground) * kept


def _lay_deposit(canvas: Canvas, ground: ColourField, cover: Field) -> ColourField:
    """Draw a grainy lump of one colour, lit from the side."""
    generator = canvas.generator
    angle = generator.uniform(0, math.tau)
    bulge = cv2.GaussianBlur(cover, (0, 0), max(0.8, 3 * canvas.unit))
    light = light_relief(np.asarray(bulge), angle=angle, width=canvas.unit)
    grain = cloud_noise(cover.shape, generator, cells=int(generator.integers(3, 16)))
    colour = np.broadcast_to(canvas.draw_colour(), ground.shape)
    lump = add_light(colour, 35 * light + generator.uniform(2, 30) * grain)
    return blend(ground, lump, cover * np.float32(0.25 + 0.75 * canvas.contrast))
