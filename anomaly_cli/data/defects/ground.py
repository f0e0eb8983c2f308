"""Synthetic defects that change the colour or the texture of the ground."""

import math

import cv2
import numpy as np

from anomaly_cli.data.defects.canvas import (
    Canvas,
    Change,
    ColourField,
    add_light,
    as_colour,
    blend,
    contrasting_sign,
    mean_colour,
)
from anomaly_cli.data.defects.regions import Region, draw_region
from anomaly_cli.data.defects.shapes import Box, Field, cloud_noise, log_uniform, smoothstep


def draw_colour(canvas: Canvas) -> Change:
    """Change brightness, contrast, gamma, tint or hue of a region, with a soft or crisp border."""
    generator = canvas.generator
    region = draw_region(canvas.shape, canvas.centre, generator, smallest=0.02)
    ground = canvas.ground(region.box)
    cover = _soft_cover(canvas, region)
    coloured = (0.0, 0.0) if canvas.is_grey else (1.5, 1.5)
    variant = canvas.draw_one_of(1.5, 1, 1, *coloured)
    if variant == 0:
        sign = contrasting_sign(ground, cover, generator)
        drawn = ground + np.float32(sign * (12 + 70 * canvas.contrast))
    elif variant == 1:
        gain = np.float32(generator.choice((0.7, 1.0)) - 0.6 * canvas.contrast)
        middle = mean_colour(ground, cover)
        drawn = middle + (ground - middle) * (gain if generator.random() < 0.5 else 2 - gain)
    elif variant == 2:
        power = math.exp(generator.choice((-1, 1)) * (0.25 + 0.8 * canvas.contrast))
        drawn = np.float32(255) * (ground * np.float32(1 / 255)) ** np.float32(power)
    elif variant == 3:
        strength = np.float32(0.1 + 0.5 * canvas.contrast)
        drawn = ground + (canvas.draw_colour() - ground) * strength
    else:
        drawn = _turn_hue(canvas, ground)
    return Change(region.box, blend(ground, drawn, cover))


def _turn_hue(canvas: Canvas, ground: ColourField) -> ColourField:
    """Turn the colours about the grey axis, and make them paler or stronger."""
    angle = canvas.generator.choice((-1, 1)) * (0.3 + 2.8 * canvas.contrast)
    cosine, sine = math.cos(angle), math.sin(angle) / math.sqrt(3)
    third = (1 - cosine) / 3
    matrix = np.full((3, 3), third) + np.diag([cosine] * 3)
    matrix += np.array([[0, -sine, sine], [sine, 0, -sine], [-sine, sine, 0]])
    grey = np.full((3, 3), 1 / 3)
    saturation = canvas.generator.uniform(0, 2)
    return np.asarray(cv2.transform(ground, grey + saturation * (matrix - grey)), np.float32)


def draw_texture(canvas: Canvas) -> Change:
    """Blur, smear, roughen, turn, scramble or rib the texture of a region."""
    generator = canvas.generator
    region = draw_region(canvas.shape, canvas.centre, generator, smallest=0.02)
    ground = canvas.ground(region.box)
    variant = canvas.draw_one_of(1, 1, 1.5, 1.5, 1, 0.7)
    if variant == 0:
        sigma = canvas.unit * log_uniform(generator, 1.5, 8)
        drawn = np.asarray(cv2.GaussianBlur(ground, (0, 0), max(0.8, sigma)), np.float32)
    elif variant == 1:
        drawn = _smear(canvas, ground)
    elif variant == 2:
        drawn = _roughen(canvas, ground)
    elif variant == 3:
        drawn = _turn(canvas, region.box)
    elif variant == 4:
        drawn = _scramble(canvas, ground)
    else:
        drawn = _rib(canvas, ground, region.box)
    return Change(region.box, blend(ground, drawn, _soft_cover(canvas, region)))


def _soft_cover(canvas: Canvas, region: Region) -> Field:
    """Compute the cover of a region whose border is crisp, or soft up to the region's width."""
    softest = max(1.5, 1.5 * region.radius)
    return smoothstep(region.cover(log_uniform(canvas.generator, 1, softest)))


def _smear(canvas: Canvas, ground: ColourField) -> ColourField:
    """Blur the ground along one random direction."""
    length = max(3, round(canvas.unit * canvas.generator.uniform(8, 30)))
    kernel = np.zeros((length, length), np.float32)
    angle = canvas.generator.uniform(0, math.pi)
    middle = (length - 1) / 2
    reach = np.array([math.cos(angle), math.sin(angle)]) * middle
    start, end = (np.rint(middle + sign * reach).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, end, (1.0,))
    return np.asarray(cv2.filter2D(ground, -1, kernel / kernel.sum()), np.float32)


def _roughen(canvas: Canvas, ground: ColourField) -> ColourField:
    """Add grain, from single pixels to bumps; in some colour images, separately per channel."""
    generator = canvas.generator
    amplitude = 10 + 50 * canvas.contrast
    coarse = max(1.0, canvas.unit * log_uniform(generator, 1, 6))
    sides = [max(2, round(side / coarse)) for side in ground.shape[:2]]
    is_coloured = not canvas.is_grey and generator.random() < 0.3
    noise = generator.normal(0, 1, (*sides, 3) if is_coloured else sides).astype(np.float32)
    grain: Field = np.asarray(cv2.resize(noise, ground.shape[1::-1]), np.float32)
    return ground + np.float32(amplitude) * (grain if is_coloured else as_colour(grain))


def _turn(canvas: Canvas, box: Box) -> ColourField:
    """Turn the ground by 30 to 150 degrees, half of the time mirrored: the texture runs askew."""
    generator = canvas.generator
    centre = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    matrix = cv2.getRotationMatrix2D(centre, generator.uniform(30, 150), 1.0)
    if generator.random() < 0.5:
        matrix[0] = [-matrix[0, 0], -matrix[0, 1], 2 * centre[0] - matrix[0, 2]]
    matrix[:, 2] -= (box.left, box.top)
    size = box.shape[::-1]
    turned = cv2.warpAffine(canvas.image, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, np.float32)


def _scramble(canvas: Canvas, ground: ColourField) -> ColourField:
    """Replace pixels, in clumps, by random neighbours, as in torn or crumbled ground."""
    generator, (height, width) = canvas.generator, ground.shape[:2]
    reach = canvas.unit * log_uniform(generator, 6, 24)
    clump = max(1.0, canvas.unit * log_uniform(generator, 1, 10))
    sides = (max(2, round(width / clump)), max(2, round(height / clump)))
    y, x = np.indices((height, width), dtype=np.float32)
    shift_x, shift_y = (
        cv2.resize(
            generator.normal(0, reach, sides[::-1]).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_NEAREST,
        )
        for _ in range(2)
    )
    moved = cv2.remap(
        ground, x + shift_x, y + shift_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(moved, np.float32)


def _rib(canvas: Canvas, ground: ColourField, box: Box) -> ColourField:
    """Add parallel, slightly wavy lines."""
    generator = canvas.generator
    x, y = box.offsets(canvas.centre)
    angle = generator.uniform(0, math.pi)
    period = max(2.5, canvas.unit * log_uniform(generator, 4, 16))
    course = np.float32(math.cos(angle)) * x + np.float32(math.sin(angle)) * y
    course += np.float32(0.3 * period) * cloud_noise(box.shape, generator, cells=3)
    wave = np.sin(course * np.float32(math.tau / period))
    return add_light(ground, np.float32(8 + 45 * canvas.contrast) * wave)
