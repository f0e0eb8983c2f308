"""Defects are natural in place, size and contrast, and their masks are exact."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_cli.data.defects import (
    MIN_AREA,
    MIN_DIFFERENCE,
    DefectKind,
    SyntheticDefect,
    draw_defect,
)
from anomaly_cli.files.images import RGBImage

KINDS = pytest.mark.parametrize("kind", DefectKind)


def make_ground(height: int, width: int, *, seed: int = 0) -> RGBImage:
    """Coloured noise: no two neighbouring pixels are alike, so that no change can hide."""
    return np.random.default_rng(seed).integers(60, 190, (height, width, 3), dtype=np.uint8)


def draw(image: RGBImage, kind: DefectKind, seed: int = 0) -> SyntheticDefect:
    """Draw with a striped donor of another size."""
    donor = np.zeros((90, 120, 3), np.uint8)
    donor[:, ::7] = (200, 120, 40)
    return draw_defect(image, kind=kind, donors=[donor], generator=np.random.default_rng(seed))


def assert_exact(image: RGBImage, defect: SyntheticDefect) -> None:
    """Check that the mask is where the image differs visibly, and nowhere else."""
    difference = np.abs(defect.image.astype(int) - image.astype(int)).max(axis=2)
    np.testing.assert_array_equal(defect.mask, difference > 0)
    assert difference[defect.mask].min() >= MIN_DIFFERENCE
    assert np.count_nonzero(defect.mask) >= MIN_AREA


@given(
    kind=st.sampled_from(DefectKind),
    height=st.integers(32, 120),
    width=st.integers(32, 120),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_mask_is_exactly_where_the_image_visibly_differs(
    kind: DefectKind, height: int, width: int, seed: int
) -> None:
    image = make_ground(height, width, seed=seed)
    assert_exact(image, draw(image, kind, seed))


@KINDS
@pytest.mark.parametrize("size", [64, 128, 256, 512, 1024])
@pytest.mark.parametrize("is_grey", [False, True], ids=["colour", "grey"])
def test_mask_is_exact_from_64_to_1024_pixels(kind: DefectKind, size: int, is_grey: bool) -> None:
    image = make_ground(size, size)
    if is_grey:
        image = np.repeat(image[..., :1], 3, axis=2)
    assert_exact(image, draw(image, kind))


@given(kind=st.sampled_from(DefectKind), level=st.integers(0, 255), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_defect_is_seen_on_any_flat_ground_even_black_or_white(
    kind: DefectKind, level: int, seed: int
) -> None:
    """A pit in black, a patch cut from the image itself: drawn until something differs."""
    image = np.full((64, 64, 3), level, np.uint8)
    generator = np.random.default_rng(seed)
    assert_exact(image, draw_defect(image, kind=kind, donors=[image], generator=generator))


@KINDS
def test_same_seed_draws_the_same_bytes_and_another_seed_others(kind: DefectKind) -> None:
    image = make_ground(96, 96)
    first, again, other = (draw(image, kind, seed) for seed in (3, 3, 4))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert first.mask.tobytes() != other.mask.tobytes()


@KINDS
def test_the_normal_image_and_the_donor_are_left_as_they_were(kind: DefectKind) -> None:
    image, donor = make_ground(64, 64), make_ground(40, 40, seed=1)
    before = image.copy(), donor.copy()
    draw_defect(image, kind=kind, donors=[donor], generator=np.random.default_rng(0))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(donor, before[1])


@KINDS
def test_defect_in_a_grey_image_is_grey(kind: DefectKind) -> None:
    """A monochrome camera sees no colour, so colour must not give the defect away."""
    image = np.repeat(make_ground(80, 80)[..., :1], 3, axis=2)
    changed = draw(image, kind).image
    np.testing.assert_array_equal(changed[..., 0], changed[..., 1])
    np.testing.assert_array_equal(changed[..., 0], changed[..., 2])


def test_patch_brings_the_colour_of_its_donor_into_a_colour_image() -> None:
    image = np.full((80, 80, 3), (120, 120, 121), np.uint8)
    donor = np.full((80, 80, 3), (220, 20, 20), np.uint8)
    reddest = 0
    for seed in range(8):
        generator = np.random.default_rng(seed)
        defect = draw_defect(image, kind=DefectKind.PATCH, donors=[donor], generator=generator)
        red, green = defect.image[defect.mask].astype(int).T[:2]
        reddest = max(reddest, int((red - green).max()))
    assert reddest > 100


@KINDS
def test_sizes_and_contrasts_go_from_small_and_faint_to_large_and_strong(kind: DefectKind) -> None:
    image = np.repeat(make_ground(128, 128)[..., :1], 3, axis=2) // 3 + 80
    defects = [draw(image, kind, seed) for seed in range(40)]
    areas = [np.count_nonzero(defect.mask) for defect in defects]
    strengths = [np.abs(defect.image.astype(int) - image)[defect.mask].mean() for defect in defects]
    assert max(areas) > 5 * min(areas)
    assert max(strengths) > 1.6 * min(strengths)


@KINDS
def test_defect_covers_the_same_share_of_a_small_and_a_large_image(kind: DefectKind) -> None:
    """Four times the side has, on average, sixteen times the area.

    A stroke is at least about a pixel wide, so it takes up more of a small image.
    """
    shares = {}
    for size in (64, 256):
        image = np.full((size, size, 3), 128, np.uint8)
        shares[size] = np.mean([draw(image, kind, seed).mask.mean() for seed in range(30)])
    assert 0.25 < shares[256] / shares[64] < 1.5


def test_hole_is_darker_than_its_surroundings() -> None:
    image = np.full((128, 128, 3), 150, np.uint8)
    defects = [draw(image, DefectKind.HOLE, seed) for seed in range(20)]
    levels = [np.median(defect.image[defect.mask]) for defect in defects]
    assert max(levels) < 145
    assert np.median(levels) < 110


def test_scratch_is_thin() -> None:
    """Eroding by a few pixels removes a scratch and leaves the core of any stain as large."""
    from skimage.morphology import disk, erosion

    image = np.full((256, 256, 3), 128, np.uint8)
    for seed in range(10):
        mask = draw(image, DefectKind.SCRATCH, seed).mask
        assert np.count_nonzero(erosion(mask, disk(6))) < 0.1 * np.count_nonzero(mask)


@KINDS
@pytest.mark.parametrize("shape", [(31, 64), (64, 31), (2, 2)])
def test_tiny_image_is_refused(kind: DefectKind, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 32 pixels"):
        draw(make_ground(*shape), kind)


def test_patch_without_donor_is_refused() -> None:
    with pytest.raises(ValueError, match="donor"):
        draw_defect(
            make_ground(64, 64),
            kind=DefectKind.PATCH,
            donors=[],
            generator=np.random.default_rng(0),
        )


def test_no_pinhole_is_left_where_the_new_texture_meets_the_old_level() -> None:
    """A pixel of the patch may equal the old one by chance; the mask has no such speck."""
    rows, columns = np.indices((94, 94)) + 1
    image = np.repeat(make_ground(96, 96)[..., :1], 3, axis=2)
    donor = np.repeat(make_ground(96, 96, seed=5)[..., :1], 3, axis=2)
    for seed in range(8):
        generator = np.random.default_rng(seed)
        mask = draw_defect(image, kind=DefectKind.PATCH, donors=[donor], generator=generator).mask
        neighbours = sum(
            mask[rows + dy, columns + dx].astype(int)
            for dy, dx in product((-1, 0, 1), repeat=2)
            if (dy, dx) != (0, 0)
        )
        assert not np.any((neighbours == 8) & ~mask[1:-1, 1:-1])
