"""The painter: kinds by weight, on the object where there is one, pieces of other normal images."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.morphology import erosion

from anomaly_cli.data.defects import (
    WEIGHTS,
    DefectKind,
    DefectPainter,
    SyntheticDefect,
    foreground_mask,
)
from anomaly_cli.data.defects import painter as painting
from anomaly_cli.data.photographs import Split, draw_normal
from anomaly_cli.files.images import RGBImage

KINDS = pytest.mark.parametrize("kind", DefectKind)
SIZE = 96


def draw_bottle(seed: int = 0, *, size: int = SIZE, radius: float = 0.3) -> RGBImage:
    """Draw a dark ring with a bright bottom on white ground, with a little noise of the camera."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5 + generator.uniform(-0.02, 0.02, (2, 1, 1))
    distance = np.hypot(x, y)
    level = np.where(distance < radius, np.where(distance < radius / 2, 190, 60), 235)
    noise = generator.normal(0, 2, (size, size, 3))
    tinted = level[..., None] * (1, 0.95, 0.9) + noise
    return np.clip(np.rint(tinted), 0, 255).astype(np.uint8)


def draw_grass(seed: int = 0, *, size: int = SIZE) -> RGBImage:
    """Draw a grey texture that fills the image."""
    generator = np.random.default_rng(seed)
    return draw_normal("grass", split=Split.TRAIN, image_size=size, generator=generator)


def paint(painter: DefectPainter, image: RGBImage, count: int, **options: object) -> list:
    """Defects in one image."""
    generator = np.random.default_rng(0)
    return [painter(image, generator, **options) for _ in range(count)]


def difference(image: RGBImage, defect: SyntheticDefect) -> NDArray[np.int64]:
    return np.abs(defect.image.astype(int) - image.astype(int)).max(axis=2)


@pytest.fixture(scope="module")
def bottles() -> list[RGBImage]:
    return [draw_bottle(seed) for seed in range(6)]


@KINDS
@pytest.mark.parametrize("size", [64, 128, 256, 512])
@pytest.mark.parametrize("draw", [draw_bottle, draw_grass], ids=["colour", "grey"])
def test_mask_is_where_the_image_changed_for_every_kind_and_size(
    kind: DefectKind, size: int, draw: object
) -> None:
    image, other = draw(0, size=size), draw(1, size=size)
    defect = DefectPainter([image, other])(image, np.random.default_rng(0), kind=kind)
    changed = difference(image, defect)
    assert defect.kind is kind
    np.testing.assert_array_equal(defect.mask, changed > 0)
    assert changed[defect.mask].min() >= 4
    assert changed[defect.mask].max() >= 12
    if draw is draw_grass:
        np.testing.assert_array_equal(defect.image[..., 0], defect.image[..., 2])


@KINDS
def test_same_seed_paints_the_same_bytes_and_another_seed_others(
    kind: DefectKind, bottles: list[RGBImage]
) -> None:
    painter, again = DefectPainter(bottles), DefectPainter(bottles)
    first = painter(bottles[0], np.random.default_rng(7), kind=kind)
    second = again(bottles[0], np.random.default_rng(7), kind=kind)
    other = painter(bottles[0], np.random.default_rng(8), kind=kind)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


def test_a_painter_has_no_memory(bottles: list[RGBImage]) -> None:
    """Earlier defects do not change later ones: workers may share the images."""
    painter = DefectPainter(bottles)
    before = [image.copy() for image in bottles]
    fresh = painter(bottles[1], np.random.default_rng(3))
    paint(painter, bottles[0], 20)
    np.testing.assert_array_equal(painter(bottles[1], np.random.default_rng(3)).image, fresh.image)
    np.testing.assert_array_equal(bottles, before)


def test_kinds_come_as_often_as_their_weights_say(bottles: list[RGBImage]) -> None:
    """The share of each kind in 400 defects lies within four standard deviations."""
    painted = [defect.kind for defect in paint(DefectPainter(bottles), bottles[0], 400)]
    for kind in DefectKind:
        share = WEIGHTS[kind] / sum(WEIGHTS.values())
        spread = np.sqrt(share * (1 - share) / 400)
        assert abs(painted.count(kind) / 400 - share) < 4 * spread


def test_kinds_without_a_weight_are_never_drawn(bottles: list[RGBImage]) -> None:
    weights = {DefectKind.HOLE: 1.0, DefectKind.STAIN: 3.0}
    painted = [d.kind for d in paint(DefectPainter(bottles, weights=weights), bottles[0], 60)]
    assert set(painted) == set(weights)
    assert painted.count(DefectKind.STAIN) > painted.count(DefectKind.HOLE)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_wanted_share_of_defects_touches_the_object(share: float) -> None:
    """The object covers an eighth of the image; a defect anywhere touches it by chance only."""
    small = [draw_bottle(seed, radius=0.2) for seed in range(4)]
    object_mask = foreground_mask(small[0])
    assert object_mask is not None
    painter = DefectPainter(small, on_foreground=share)
    touching = np.mean([(d.mask & object_mask).any() for d in paint(painter, small[0], 150)])
    by_chance = 0.35  # larger ones reach it from outside
    assert share - 0.01 <= touching <= share + (1 - share) * by_chance + 0.1
    assert (touching == 1) == (share == 1)


def test_defects_in_a_texture_lie_everywhere() -> None:
    grass = draw_grass()
    painter = DefectPainter([grass])
    assert not painter.has_foreground
    covered = np.mean([defect.mask for defect in paint(painter, grass, 300)], axis=0)
    for rows in np.split(covered, 4):
        for part in np.split(rows, 4, axis=1):
            assert part.mean() > 0.003


def test_areas_are_mostly_small_and_sometimes_a_tenth(bottles: list[RGBImage]) -> None:
    areas = np.array(
        [defect.mask.mean() for defect in paint(DefectPainter(bottles), bottles[0], 400)]
    )
    low, middle, high = np.quantile(areas, (0.05, 0.5, 0.98))
    assert low < 0.003
    assert 0.004 < middle < 0.02
    assert 0.05 < high < 0.15
    assert areas.max() < 0.25


def test_every_kind_is_painted_without_donors_and_without_other_images() -> None:
    """Patches then come from another place of the same image."""
    image = draw_bottle()
    for painter in (DefectPainter([], []), DefectPainter([image], [])):
        for kind in DefectKind:
            defect = painter(image, np.random.default_rng(1), kind=kind)
            np.testing.assert_array_equal(defect.mask, difference(image, defect) > 0)


def test_patches_bring_colours_of_other_normal_images() -> None:
    """Red normals beside a grey-green one: with them alone as a source, patches turn red."""
    image = np.full((64, 64, 3), (90, 110, 90), np.uint8)
    red = np.full((64, 64, 3), (220, 20, 20), np.uint8)
    painter = DefectPainter([red, red], [])
    defects = paint(painter, image, 20, kind=DefectKind.PATCH)
    redness = [(d.image[..., 0].astype(int) - d.image[..., 1]).max() for d in defects]
    assert max(redness) > 120


def test_missing_parts_break_off_at_the_outline_and_show_the_background() -> None:
    """Many of them turn pixels of the dark ring as bright as the background."""
    image = draw_bottle()
    ring = image[..., 1] < 100
    shown = [
        (defect.image[..., 1][ring] > 200).sum()
        for defect in paint(DefectPainter([image], []), image, 40, kind=DefectKind.MISSING)
    ]
    assert np.mean(np.array(shown) > 10) > 0.3


def test_half_of_the_missing_parts_break_off_at_the_outline_by_intent() -> None:
    """Two fifths of parts anywhere in this wide object touch the outline by chance."""
    image = draw_bottle(radius=0.42, size=192)
    found = foreground_mask(image)
    assert found is not None
    inner = erosion(found)
    defects = paint(DefectPainter([image], []), image, 100, kind=DefectKind.MISSING)
    assert np.mean([(defect.mask & found & ~inner).any() for defect in defects]) > 0.55


def test_every_defect_touches_even_a_narrow_object() -> None:
    """A cluster of holes about a place of a thin bar may miss it, and is then drawn again."""
    image = np.full((96, 96, 3), 235, np.uint8)
    image[44:52, 8:88] = 40
    found = foreground_mask(image)
    assert found is not None
    painter = DefectPainter([image], [], on_foreground=1.0)
    assert all((defect.mask & found).any() for defect in paint(painter, image, 400))


def test_a_change_within_the_grain_of_the_ground_is_drawn_again() -> None:
    """Coarse noise of 40 levels: a tenth of each defect stands out from it."""
    noise = np.random.default_rng(0).normal(128, 40, (SIZE, SIZE, 1))
    image = np.repeat(np.clip(noise, 0, 255).astype(np.uint8), 3, axis=2)
    for defect in paint(DefectPainter([image]), image, 60):
        changed = difference(image, defect)[defect.mask]
        assert np.mean(changed > 40) > 0.05


@given(
    kind=st.sampled_from(DefectKind),
    inside=st.integers(0, 255),
    outside=st.integers(0, 255),
    radius=st.floats(0.08, 0.5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=80, deadline=None)
def test_every_flat_object_on_flat_ground_can_be_painted(
    kind: DefectKind, inside: int, outside: int, radius: float, seed: int
) -> None:
    """Training must not end because a defect cannot be seen: black on black, white on white."""
    y, x = np.mgrid[:64, :64] / 64 - 0.5
    level = np.where(np.hypot(x, y) < radius, inside, outside)
    image = np.repeat(level[..., None], 3, axis=2).astype(np.uint8)
    defect = DefectPainter([image], [])(image, np.random.default_rng(seed), kind=kind)
    np.testing.assert_array_equal(defect.mask, difference(image, defect) > 0)


def test_tiny_image_is_refused(bottles: list[RGBImage]) -> None:
    with pytest.raises(ValueError, match="at least 32 pixels"):
        DefectPainter(bottles)(draw_bottle(size=16), np.random.default_rng(0))


def test_an_image_that_shows_no_defect_is_given_up(
    bottles: list[RGBImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painting, "apply_change", lambda *_given, **_named: None)
    with pytest.raises(ValueError, match=r"can be seen in an image of shape \(128, 128, 3\)"):
        DefectPainter(bottles)(draw_bottle(size=128), np.random.default_rng(0))


@pytest.mark.parametrize(("size", "limit"), [(128, 4.0), (256, 12.0)])
def test_painting_costs_less_than_a_tenth_of_a_training_step(size: int, limit: float) -> None:
    """A bar of milliseconds of one core, with a factor of two for a slow machine."""
    normals = [draw_bottle(seed, size=size) for seed in range(4)]
    painter = DefectPainter(normals)
    paint(painter, normals[0], 5)
    start = time.process_time()
    paint(painter, normals[0], 60)
    assert 1000 * (time.process_time() - start) / 60 < 2 * limit
