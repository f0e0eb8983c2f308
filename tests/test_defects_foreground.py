"""The object is what differs from the border of the image; textures and mere shading have none."""

import cv2
import numpy as np
import pytest

from anomaly_cli.data.defects import DefectPainter, foreground_mask
from anomaly_cli.data.photographs import CATEGORIES, Split, draw_normal
from anomaly_cli.files.images import Mask, RGBImage


def lay(mask: Mask, inside: object, outside: object, *, seed: int = 0) -> RGBImage:
    """Two levels with noise of the camera, (H, W, 3)."""
    noise = np.random.default_rng(seed).normal(0, 4, (*mask.shape, 1))
    levels = np.where(mask[..., None], inside, outside) + noise
    return np.clip(np.rint(np.broadcast_to(levels, (*mask.shape, 3))), 0, 255).astype(np.uint8)


def disc(height: int = 120, width: int = 120, radius: float = 40) -> Mask:
    y, x = np.mgrid[:height, :width]
    return np.hypot(y - height / 2, x - width / 2) < radius


def overlap(found: Mask | None, wanted: Mask) -> float:
    """Intersection over union."""
    assert found is not None
    return float((found & wanted).sum() / (found | wanted).sum())


@pytest.mark.parametrize(
    ("inside", "outside"),
    [(60, 235), (200, 15), ((150, 60, 50), (70, 110, 60))],
    ids=["dark on white", "bright on black", "red on green"],
)
@pytest.mark.parametrize("size", [64, 120, 512])
def test_object_is_found_whatever_is_brighter(inside: object, outside: object, size: int) -> None:
    wanted = disc(size, size, size / 3)
    assert overlap(foreground_mask(lay(wanted, inside, outside)), wanted) > 0.93


def test_a_bright_bottom_belongs_to_the_bottle() -> None:
    """A hole of the background's colour inside the object is filled."""
    image = lay(disc() & ~disc(radius=20), 60, 235)
    assert overlap(foreground_mask(image), disc()) > 0.93


def test_mask_has_the_size_of_an_image_that_is_not_square() -> None:
    wanted = disc(90, 160)
    assert overlap(foreground_mask(lay(wanted, 60, 235)), wanted) > 0.93


def test_a_strip_from_edge_to_edge_is_an_object() -> None:
    """As a zipper, whose ends lie on the border."""
    wanted = np.zeros((100, 100), bool)
    wanted[:, 30:70] = True
    assert overlap(foreground_mask(lay(wanted, 200, 40)), wanted) > 0.9


def test_mean_of_shifted_parts_has_the_common_foreground() -> None:
    shifts = [(0, 0), (4, 0), (0, 4), (-4, -4)]
    parts = [lay(np.roll(disc(), shift, (0, 1)), 60, 235, seed=0) for shift in shifts]
    assert overlap(foreground_mask(np.mean(parts, axis=0).astype(np.uint8)), disc()) > 0.85


@pytest.mark.parametrize("category", CATEGORIES)
def test_textures_have_none(category: str) -> None:
    generator = np.random.default_rng(0)
    images = [
        draw_normal(category, split=Split.TRAIN, image_size=96, generator=generator)
        for _ in range(12)
    ]
    assert sum(foreground_mask(image) is not None for image in images) <= 1
    assert not DefectPainter(images).has_foreground


def test_flat_image_ramp_of_light_and_vignette_have_none() -> None:
    y, x = np.mgrid[:96, :96] / 95
    vignette = 220 - 320 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    for levels in (np.full((96, 96), 128.0), 40 + 180 * x, 40 + 90 * (x + y), vignette):
        image = np.repeat(levels[..., None], 3, axis=2).astype(np.uint8)
        assert foreground_mask(image) is None


def test_a_few_specks_are_no_object() -> None:
    image = lay(disc(radius=4), 60, 235)
    assert foreground_mask(image) is None


def test_painter_has_a_foreground_if_most_images_have_one() -> None:
    parts = [lay(disc(), 60, 235, seed=seed) for seed in range(10)]
    flat = [np.full_like(parts[0], 128)] * 10
    assert DefectPainter(parts + flat[:1], []).has_foreground
    assert not DefectPainter(parts[:4] + flat, []).has_foreground
    assert not DefectPainter([], []).has_foreground


def test_defects_follow_an_object_that_the_augmentation_has_moved() -> None:
    """The foreground is found in the image that is painted, not in a mean of all."""
    parts = [lay(disc(radius=16), 60, 235, seed=seed) for seed in range(4)]
    moved = np.float32([[1, 0, 30], [0, 1, -30]])
    image = cv2.warpAffine(parts[0], moved, (120, 120), borderValue=(235, 235, 235))
    place = np.roll(disc(radius=16), (-30, 30), (0, 1))
    painter, generator = DefectPainter(parts, on_foreground=1.0), np.random.default_rng(0)
    touching = [(painter(image, generator).mask & place).any() for _ in range(40)]
    assert np.mean(touching) > 0.9
