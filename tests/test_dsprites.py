"""The renderer of dSprites: its factors, its laws, and the published sample images."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import points_in_poly

from anomaly_cli.disentangle.dsprites import (
    FACTOR_SIZES,
    FACTORS,
    IMAGE_COUNT,
    factors_of,
    indices_of,
    open_dsprites,
)
from anomaly_cli.disentangle.sprites import CENTRES, ORIENTATIONS, SCALES, outlines

SPRITES = open_dsprites(None)
FACTOR_VALUES = st.tuples(*[st.integers(0, size - 1) for size in FACTOR_SIZES])


def draw(*factors: tuple[int, int, int, int, int]) -> NDArray[np.uint8]:
    return SPRITES.images(indices_of(np.array(factors, np.int64)))


def test_order_is_the_official_one_with_y_fastest() -> None:
    """Strides of the official file: 245760, 40960, 1024, 32, 1."""
    assert FACTORS == ("shape", "scale", "orientation", "x", "y")
    assert len(SPRITES) == IMAGE_COUNT == np.prod(FACTOR_SIZES)
    np.testing.assert_array_equal(
        indices_of(np.eye(5, dtype=np.int64)), [245760, 40960, 1024, 32, 1]
    )
    np.testing.assert_array_equal(factors_of(np.array([IMAGE_COUNT - 1])), [[2, 5, 39, 31, 31]])


@given(st.lists(st.integers(0, IMAGE_COUNT - 1), max_size=8))
def test_indices_and_factors_are_each_others_inverse(indices: list[int]) -> None:
    array = np.array(indices, np.int64)
    factors = factors_of(array)
    assert factors.shape == (len(indices), 5)
    np.testing.assert_array_equal(indices_of(factors), array)


@pytest.mark.parametrize("index", [-1, IMAGE_COUNT])
def test_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        SPRITES.images(np.array([index]))


def test_factor_value_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid entry"):
        indices_of(np.array([[0, 0, 40, 0, 0]]))


@pytest.mark.parametrize(
    ("shape", "areas"),
    [
        (0, [100, 144, 196, 256, 324, 400]),
        (1, [76, 104, 144, 184, 228, 288]),
        (2, [58, 84, 108, 140, 182, 222]),
    ],
)
def test_areas_are_those_of_the_official_images(shape: int, areas: list[int]) -> None:
    images = draw(*[(shape, scale, 0, 0, 0) for scale in range(6)])
    assert images.sum(axis=(1, 2)).tolist() == areas


@pytest.mark.parametrize("shape", range(3))
def test_last_orientation_is_the_first_again(shape: int) -> None:
    first, last = draw((shape, 3, 0, 7, 9), (shape, 3, 39, 7, 9))
    assert first.any()
    np.testing.assert_array_equal(first, last)


@settings(deadline=None)
@given(FACTOR_VALUES)
def test_the_ends_of_a_position_are_32_pixels_apart(factors: tuple[int, ...]) -> None:
    """32 / 31 pixels a step: the only two positions that fall on the same part of a pixel."""
    shape, scale, orientation, x, y = factors
    left, right = draw((shape, scale, orientation, 0, y), (shape, scale, orientation, 31, y))
    np.testing.assert_array_equal(np.roll(left, 32, axis=1), right)
    top, bottom = draw((shape, scale, orientation, x, 0), (shape, scale, orientation, x, 31))
    np.testing.assert_array_equal(np.roll(top, 32, axis=0), bottom)


@settings(deadline=None, max_examples=60)
@given(FACTOR_VALUES)
def test_image_is_the_inside_of_its_turned_outline(factors: tuple[int, ...]) -> None:
    """Pixel by pixel by another library; corners and edges through a pixel's centre may differ."""
    shape, scale, orientation, x, y = factors
    (image,) = draw((shape, scale, orientation, x, y))
    rows, columns = np.mgrid[:64, :64]
    across, down = columns - CENTRES[x], rows - CENTRES[y]
    angle = ORIENTATIONS[orientation]
    turned = (across + 1j * down) * np.exp(1j * angle) / SCALES[scale]
    points = np.stack([turned.real.ravel(), turned.imag.ravel()], axis=1)
    outline = outlines()[shape]
    is_sure = points_in_poly(points, outline * 0.9999) == points_in_poly(points, outline * 1.0001)
    inside = points_in_poly(points, outline)
    assert inside.sum() > 50
    np.testing.assert_array_equal(image.reshape(-1)[is_sure], inside[is_sure])


def test_images_are_binary_bytes_of_the_callers_own() -> None:
    images = SPRITES.images(np.array([5, 5, 700_000]))
    assert images.shape == (3, 64, 64)
    assert images.dtype == np.uint8
    assert set(np.unique(images)) == {0, 1}
    images[0] = 7
    assert SPRITES.images(np.array([5])).max() == 1
    assert SPRITES.images(np.empty(0, np.int64)).shape == (0, 64, 64)
    assert SPRITES.source == "rendered"


def sweep_of_gif() -> NDArray[np.int64]:
    """Factors of the frames of dsprites.gif: one factor at a time runs up or down."""
    start = {"shape": 0, "scale": 5, "orientation": 0, "x": 0, "y": 0}
    grow, shrink = range(6), range(5, -1, -1)
    forth, back = range(32), range(31, -1, -1)

    def run(name: str, values: range, **held: int) -> list[list[int]]:
        return [list((start | held | {name: value}).values()) for value in values]

    frames = []
    for shape in (2, 1, 0):
        for values in (grow, shrink, grow):
            frames += run("scale", values, shape=shape)
        frames += run("orientation", range(40), shape=shape)
        if shape == 2:
            frames += run("y", forth, shape=2) + run("x", forth, shape=2, y=31)
            frames += run("y", back, shape=2, x=31) + run("x", back, shape=2)
        frames += run("scale", shrink, shape=shape)
    return np.array(frames)


@pytest.mark.data
def test_published_frames_differ_in_few_pixels(real_data: Path) -> None:
    """320 frames with 77,010 pixels of sprites: 24 differ, on 12 frames."""
    with Image.open(real_data / "dsprites" / "dsprites.gif") as gif:
        frames = []
        for frame in range(gif.n_frames):  # type: ignore[attr-defined] # of GIF files only
            gif.seek(frame)
            frames.append(np.array(gif.convert("L")) > 127)
    real, factors = np.stack(frames), sweep_of_gif()
    wrong = (SPRITES.images(indices_of(factors)) != real).sum(axis=(1, 2))
    assert real.sum() == 77_010
    assert len(wrong) == 320
    assert wrong.sum() == 24
    assert wrong.max() <= 4
    assert (wrong > 0).sum() == 12


@pytest.mark.data
def test_labelled_images_differ_in_one_pixel(real_data: Path) -> None:
    """12 images with 1,724 pixels of sprites at places and angles that are not in the GIF."""
    with np.load(real_data / "dsprites" / "labelled_sample.npz") as sample:
        real, values = sample["imgs"], sample["latents_values"]
    steps = [1, 10, 39 / (2 * np.pi), 31, 31]
    factors = np.rint((values[:, 1:] - [1, 0.5, 0, 0, 0]) * steps).astype(np.int64)
    wrong = (SPRITES.images(indices_of(factors)) != real).sum(axis=(1, 2))
    assert real.sum() == 1_724
    assert sorted(wrong.tolist()) == [0] * 11 + [1]
