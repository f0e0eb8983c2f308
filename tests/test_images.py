"""Reading, finding, resizing and writing image files: what a factory's camera may leave on disk."""

import os
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from anomaly_cli.errors import DataError, OutputError
from anomaly_cli.files import read as reading
from anomaly_cli.files.images import (
    ImageFile,
    Mask,
    find_images,
    is_image,
    list_folder,
    output_stems,
    write_png,
    write_tiff,
)
from anomaly_cli.files.read import image_size, read_image, read_mask
from anomaly_cli.files.resize import (
    resize_image,
    resize_map,
    resize_mask,
    resize_mask_by_area,
)

DEEP = np.array([[0, 257, 32768, 65535]], np.uint16)
DEEP_AS_8_BIT = [0, 1, 128, 255]  # 32768 * 255 / 65535 = 127.502
EXIF_ORIENTATION = 0x0112


def save(
    path: Path, array: NDArray[np.generic], mode: str | None = None, **options: object
) -> Path:
    """Write an array with Pillow; `mode` reinterprets its channels, such as LA or CMYK."""
    image = Image.fromarray(array)
    if mode is not None:
        image = Image.merge(
            mode, [Image.fromarray(channel) for channel in np.moveaxis(array, 2, 0)]
        )
    image.save(path, **options)
    return path


def save_rotated(path: Path, array: NDArray[np.uint8], orientation: int) -> Path:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return save(path, array, exif=exif)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


# Reading images


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.ppm", "X.PNG"])
def test_8_bit_rgb_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    image = noise(5, 7)
    read = read_image(save(tmp_path / name, image))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, image)


def test_grey_is_repeated_to_three_channels(tmp_path: Path) -> None:
    grey = noise(4, 6)[..., 0]
    read = read_image(save(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(read, np.stack([grey] * 3, axis=2))


def test_one_bit_is_read_as_black_and_white(tmp_path: Path) -> None:
    read = read_image(save(tmp_path / "bits.png", np.array([[True, False]])))
    assert read[..., 0].tolist() == [[255, 0]]


def test_opaque_palette_gives_its_colours(tmp_path: Path) -> None:
    indices = Image.fromarray(np.array([[0, 1, 1]], np.uint8))
    indices.putpalette([10, 20, 30, 40, 50, 60])
    indices.save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").tolist() == [
        [[10, 20, 30], [40, 50, 60], [40, 50, 60]]
    ]


def test_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    indices = Image.fromarray(np.array([[0, 1]], np.uint8))
    indices.putpalette([10, 20, 30, 40, 50, 60])
    indices.save(tmp_path / "palette.png", transparency=0)
    assert read_image(tmp_path / "palette.png").tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    """Opaque stays, transparent is white whatever its hidden colour, 20% black is 80% of white."""
    pixels = np.array([[[9, 8, 7, 255], [9, 8, 7, 0], [0, 0, 0, 51]]], np.uint8)
    read = read_image(save(tmp_path / "rgba.png", pixels))
    assert read.tolist() == [[[9, 8, 7], [255, 255, 255], [204, 204, 204]]]


def test_grey_with_alpha_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.array([[[60, 255], [60, 0]]], np.uint8)
    read = read_image(save(tmp_path / "la.png", pixels, "LA"))
    assert read.tolist() == [[[60, 60, 60], [255, 255, 255]]]


def test_grey_level_marked_as_transparent_is_white(tmp_path: Path) -> None:
    path = save(tmp_path / "trns.png", np.array([[0, 100, 200]], np.uint8), transparency=100)
    assert read_image(path)[..., 1].tolist() == [[0, 255, 200]]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_grey_is_scaled_and_not_cut_off(tmp_path: Path, name: str) -> None:
    read = read_image(save(tmp_path / name, DEEP))
    assert read.shape == (1, 4, 3)
    assert (read == read[..., :1]).all()
    assert read[0, :, 0].tolist() == DEEP_AS_8_BIT


def test_16_bit_ramp_keeps_its_mean_brightness(tmp_path: Path) -> None:
    """Pillow's own conversion would saturate 255 of 256 values, to a mean of 254.5."""
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    read = read_image(save(tmp_path / "ramp.png", ramp))
    assert read.mean() == pytest.approx(127.5, abs=0.01)
    assert len(np.unique(read)) == 256


@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"byteorder": "<"}])
def test_16_bit_tiff_of_either_byte_order_is_read_the_same(
    tmp_path: Path, options: dict[str, str]
) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", DEEP, **options)
    assert read_image(tmp_path / "deep.tif")[0, :, 2].tolist() == DEEP_AS_8_BIT


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_colour_is_scaled_too(tmp_path: Path, name: str) -> None:
    channels = np.stack([DEEP, DEEP[:, ::-1], DEEP], axis=2)  # the middle one the other way round
    cv2.imwrite(str(tmp_path / name), channels)
    read = read_image(tmp_path / name)
    assert read[0, :, 0].tolist() == DEEP_AS_8_BIT
    assert read[0, :, 1].tolist() == DEEP_AS_8_BIT[::-1]


def test_float_tiff_is_taken_as_zero_to_one(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.2, 0.5, 1.0]], np.float32)
    read = read_image(save(tmp_path / "float.tiff", values))
    assert read[0, :, 0].tolist() == [0, 51, 128, 255]


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    """No ink is white, full cyan takes the red away, black ink is black."""
    inks = {"white": (0, 0, 0, 0), "cyan": (255, 0, 0, 0), "black": (0, 0, 0, 255)}
    colours = {"white": (255, 255, 255), "cyan": (0, 255, 255), "black": (0, 0, 0)}
    for name, ink in inks.items():
        path = tmp_path / f"{name}.jpg"
        Image.new("CMYK", (8, 8), ink).save(path)
        read = read_image(path).astype(int)
        assert np.abs(read - colours[name]).max() <= 2


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: stored[::-1, ::-1]),
        (4, lambda stored: stored[::-1]),
        (5, lambda stored: stored.transpose(1, 0, 2)),
        (6, lambda stored: np.rot90(stored, -1)),
        (7, lambda stored: stored[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda stored: np.rot90(stored, 1)),
    ],
)
def test_exif_orientation_is_undone_and_counted_in_the_size(
    tmp_path: Path, orientation: int, upright: object
) -> None:
    stored = noise(4, 7)
    path = save_rotated(tmp_path / "phone.png", stored, orientation)
    expected = upright(stored)  # type: ignore[operator]
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


def test_exif_orientation_of_a_jpeg_swaps_its_sides(tmp_path: Path) -> None:
    path = save_rotated(tmp_path / "phone.jpg", noise(16, 40), 6)
    assert read_image(path).shape == (40, 16, 3)
    assert image_size(path) == (40, 16)


def test_size_is_height_and_width(tmp_path: Path) -> None:
    assert image_size(save(tmp_path / "x.png", noise(3, 9))) == (3, 9)


def test_size_of_a_photograph_needs_its_header_alone(tmp_path: Path) -> None:
    path = save_rotated(tmp_path / "x.jpg", noise(50, 60), 8)
    path.write_bytes(path.read_bytes()[:700])
    assert image_size(path) == (60, 50)


def test_a_float_image_with_nan_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "bad.tiff")
    with pytest.raises(DataError, match=r"bad\.tiff: it holds values that are not numbers"):
        read_image(tmp_path / "bad.tiff")


def test_a_mask_with_nan_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "bad.tiff")
    with pytest.raises(DataError, match=r"bad\.tiff: it holds values that are not numbers"):
        read_mask(tmp_path / "bad.tiff")


def test_an_image_of_five_channels_is_refused_by_name(tmp_path: Path) -> None:
    values = np.zeros((5, 4, 4), np.uint16)
    options = {"photometric": "minisblack", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "bad.tiff", values, **options)
    with pytest.raises(DataError, match=r"bad\.tiff: it has 5 channels; 1, 3 or 4 are read"):
        read_image(tmp_path / "bad.tiff")


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs reads these files")
def test_a_compression_that_no_requirement_reads_is_named(tmp_path: Path) -> None:
    values = Image.fromarray(np.zeros((4, 4), np.int32))
    values.save(tmp_path / "bad.tiff", compression="tiff_lzw")
    with pytest.raises(DataError, match=r"\(32 bits, LZW\) is read uncompressed or deflated"):
        read_image(tmp_path / "bad.tiff")


def test_too_little_memory_for_an_image_is_an_error_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: Path) -> None:
        raise MemoryError

    write_png(tmp_path / "large.png", noise(4, 4))
    monkeypatch.setattr(reading, "_decode", fail)
    with pytest.raises(DataError, match=r"large\.png: there is too little memory for it"):
        read_image(tmp_path / "large.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp", "gif", "ppm"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_file_is_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"cut.{suffix}", noise(64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=rf"cannot read .*cut\.{suffix}: ."):
            read(path)


@pytest.mark.parametrize("read", [read_image, read_mask, image_size])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image, or of an unknown format"),
        (b"hello, this is a text", "not an image, or of an unknown format"),
        (None, "No such file"),
    ],
)
def test_what_is_no_image_is_refused_by_name(
    tmp_path: Path, read: object, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"cannot read .*bad\.png: {reason}"):
        read(path)  # type: ignore[operator]


@pytest.mark.parametrize("read", [read_image, read_mask, image_size])
def test_folder_is_refused_by_name(tmp_path: Path, read: object) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"cannot read .*folder\.png: Is a directory"):
        read(tmp_path / "folder.png")  # type: ignore[operator]


# Reading masks


@pytest.mark.parametrize("level", [1, 2, 127, 128, 254, 255])
def test_mask_of_any_level_above_zero_is_marked(tmp_path: Path, level: int) -> None:
    marked = np.array([[True, False, True], [False, False, True]])
    read = read_mask(save(tmp_path / "mask.png", (marked * level).astype(np.uint8)))
    assert read.dtype == np.bool_
    np.testing.assert_array_equal(read, marked)


def test_mask_of_several_levels_marks_all_but_zero(tmp_path: Path) -> None:
    levels = np.array([[0, 1, 100, 255]], np.uint8)
    assert read_mask(save(tmp_path / "mask.png", levels)).tolist() == [[False, True, True, True]]


def test_one_bit_mask_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", np.array([[True, False, True]]))
    assert read_mask(path).tolist() == [[True, False, True]]


def test_16_bit_mask_of_ones_is_not_scaled_away(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", np.array([[0, 1, 65535]], np.uint16))
    assert read_mask(path).tolist() == [[False, True, True]]


def test_rgb_mask_is_marked_where_any_channel_is(tmp_path: Path) -> None:
    pixels = np.array([[[0, 0, 0], [0, 0, 1], [255, 0, 0], [255, 255, 255]]], np.uint8)
    assert read_mask(save(tmp_path / "mask.png", pixels)).tolist() == [[False, True, True, True]]


def test_alpha_of_a_mask_does_not_count(tmp_path: Path) -> None:
    """An opaque black background is not anomalous."""
    pixels = np.array([[[0, 0, 0, 255], [0, 0, 0, 0], [255, 0, 0, 255]]], np.uint8)
    assert read_mask(save(tmp_path / "rgba.png", pixels)).tolist() == [[False, False, True]]
    grey = pixels[..., [0, 3]]
    path = save(tmp_path / "la.png", np.ascontiguousarray(grey), "LA")
    assert read_mask(path).tolist() == [[False, False, True]]


def test_palette_mask_is_read_by_colour_and_not_by_index(tmp_path: Path) -> None:
    """Index 0 is red here and index 1 is black."""
    indices = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    indices.putpalette([255, 0, 0, 0, 0, 0, 0, 0, 128])
    indices.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[True, False, True]]


def test_cmyk_mask_is_marked_where_it_is_white_and_not_where_there_is_ink(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "white.tif")
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "black.tif")
    assert read_mask(tmp_path / "white.tif").all()
    assert not read_mask(tmp_path / "black.tif").any()


# Resizing


def disc(size: int, radius: float, row: float, column: float) -> Mask:
    rows, columns = np.ogrid[:size, :size]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


def test_by_area_every_region_keeps_its_share() -> None:
    mask = disc(900, 60, 450, 450) | disc(900, 8, 100, 120)
    mask[700, 30] = True  # a single pixel
    small = resize_mask_by_area(mask, 256, 256)
    assert abs(small.sum() - mask.sum() * (256 / 900) ** 2) <= 1.5
    assert small[int(700.5 * 256 / 900), int(30.5 * 256 / 900)]
    count, _labels = cv2.connectedComponents(small.astype(np.uint8))
    assert count == 4
    np.testing.assert_array_equal(resize_mask_by_area(mask, 900, 900), mask)
    assert not resize_mask_by_area(np.zeros((9, 9), bool), 4, 4).any()


def test_by_area_a_region_lies_where_it_covers_most() -> None:
    mask = np.zeros((30, 30), bool)
    mask[3:6, 6:9] = True
    expected = np.zeros((10, 10), bool)
    expected[1, 2] = True
    np.testing.assert_array_equal(resize_mask_by_area(mask, 10, 10), expected)
    wide = resize_mask_by_area(mask, 10, 60)  # one axis shrinks and the other grows
    assert wide.sum() == round(mask.mean() * wide.size)
    assert wide[1, 12:18].all()


@pytest.mark.parametrize(("radius", "tolerance"), [(8, 0.35), (20, 0.12), (60, 0.03)])
def test_small_discs_keep_their_area_when_a_mask_is_resized(radius: int, tolerance: float) -> None:
    """Regression of another tool, whose bilinear masks keep 4 of 15, 72 of 100 and 810 of 916 px.

    From 900 to 256 px each disc keeps its area to one pixel on its rim: 35%, 12% and 3%; and to 2%
    on average, as nothing is lost or gained in one direction.
    """
    ratios = []
    for shift in np.random.default_rng(radius).uniform(-4, 4, (30, 2)):
        mask = disc(900, radius, 450 + shift[0], 450 + shift[1])
        ratios.append(resize_mask(mask, 256, 256).mean() / mask.mean())
    assert np.abs(np.array(ratios) - 1).max() < tolerance
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)


def test_one_centred_disc_keeps_the_areas_measured_for_nearest() -> None:
    areas = [resize_mask(disc(900, r, 450, 450), 256, 256).sum() for r in (8, 20, 60)]
    ideal = [disc(900, r, 450, 450).sum() * (256 / 900) ** 2 for r in (8, 20, 60)]
    assert ideal == pytest.approx([16, 102, 915], rel=0.02)
    assert areas == pytest.approx(ideal, rel=0.08)


def test_of_all_single_pixels_as_many_survive_as_the_small_mask_has() -> None:
    """30 px to 13 px: each small pixel shows exactly one large one, so 13 of 30 columns survive."""
    survivors = [resize_mask(np.eye(30, dtype=bool)[i : i + 1], 1, 13).sum() for i in range(30)]
    assert sum(survivors) == 13
    assert set(survivors) == {0, 1}


@settings(max_examples=30, deadline=None)
@given(arrays(bool, (15, 25)))
def test_mask_shrunk_by_an_odd_factor_shows_the_middle_of_each_block(mask: Mask) -> None:
    np.testing.assert_array_equal(resize_mask(mask, 3, 5), mask[2::5, 2::5])


@settings(max_examples=30, deadline=None)
@given(arrays(bool, (4, 7)), st.integers(1, 5), st.integers(1, 5))
def test_mask_grown_by_whole_factors_repeats_its_pixels(
    mask: Mask, rows: int, columns: int
) -> None:
    grown = resize_mask(mask, 4 * rows, 7 * columns)
    assert grown.dtype == np.bool_
    np.testing.assert_array_equal(grown, mask.repeat(rows, axis=0).repeat(columns, axis=1))


@pytest.mark.parametrize(
    ("resize", "array"),
    [
        (resize_image, noise(6, 9)),
        (resize_mask, noise(6, 9)[..., 0] > 99),
        (resize_map, noise(6, 9)[..., 0].astype(np.float32)),
    ],
)
def test_same_size_changes_nothing(resize: object, array: NDArray[np.generic]) -> None:
    resized = resize(array, 6, 9)  # type: ignore[operator]
    assert resized.dtype == array.dtype
    np.testing.assert_array_equal(resized, array)


@pytest.mark.parametrize("size", [(8, 15), (8, 30), (40, 30), (16, 60)])
def test_map_is_enlarged_as_torch_does_with_aligned_pixel_centres(size: tuple[int, int]) -> None:
    anomaly_map = np.random.default_rng(1).normal(size=(8, 15)).astype(np.float32)
    expected = F.interpolate(
        torch.from_numpy(anomaly_map)[None, None], size, mode="bilinear", align_corners=False
    )
    resized = resize_map(anomaly_map, *size)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected[0, 0].numpy(), atol=1e-5)


def test_map_grown_by_two_has_quarter_steps_between_its_values() -> None:
    """Centres of the new pixels lie at -1/4, 1/4, 3/4 and 5/4; the outer ones are held."""
    grown = resize_map(np.array([[0, 4]], np.float32), 1, 4)
    assert grown.tolist() == [[0, 1, 3, 4]]


def test_map_is_never_stretched_beyond_its_values() -> None:
    anomaly_map = np.random.default_rng(2).exponential(size=(16, 16)).astype(np.float32)
    resized = resize_map(anomaly_map, 99, 70)
    assert anomaly_map.min() <= resized.min() < resized.max() <= anomaly_map.max()


def test_image_shrunk_by_a_whole_factor_is_the_mean_of_its_blocks() -> None:
    """Nearest or plain bilinear would drop most pixels, and with them thin scratches."""
    image = noise(12, 20)
    means = image.reshape(3, 4, 5, 4, 3).mean(axis=(1, 3))
    assert np.abs(resize_image(image, 3, 5) - means).max() <= 0.5


def test_image_grown_by_two_has_quarter_steps_between_its_values() -> None:
    image = np.array([[0, 200]], np.uint8)[..., None].repeat(3, axis=2)
    assert resize_image(image, 1, 4)[0].tolist() == [[v] * 3 for v in (0, 50, 150, 200)]


@pytest.mark.parametrize("size", [(30, 24), (41, 100), (160, 80), (60, 40)])
def test_image_resized_keeps_a_ramp_in_its_place(size: tuple[int, int]) -> None:
    """Pixel centres stay aligned: value = position, off the border, whether smaller or larger."""
    centres = np.linspace(0, 240, 80, endpoint=False) + 1.5  # of 80 pixels 3 wide
    ramp = np.repeat(centres[None, :, None], 60, axis=0).repeat(3, axis=2)
    resized = resize_image(ramp.astype(np.uint8), *size)
    assert resized.shape == (*size, 3)
    width = 240 / size[1]
    expected = (np.arange(size[1]) + 0.5) * width - 0.5  # uint8 cut half a level off the ramp
    inner = slice(2, -2)
    assert np.abs(resized[:, inner, 1] - expected[inner]).max() <= 1.5


# Finding images


def relatives(files: list[ImageFile]) -> list[str]:
    return [file.relative.as_posix() for file in files]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Images at three depths, and what must not be taken for one."""
    root = tmp_path.resolve() / "tree"
    touch(root / "b.png", root / "a.JPG", root / "day 1/x.png", root / "day 1/deep/x.tiff")
    touch(root / "notes.txt", root / "._b.png", root / ".cache/y.png", root / "day 2/x.png")
    (root / "folder.png").mkdir()
    return root


def test_folder_is_searched_to_the_bottom_without_hidden_or_other_files(tree: Path) -> None:
    files = find_images([str(tree)])
    assert relatives(files) == [
        "a.JPG",
        "b.png",
        "day 1/deep/x.tiff",
        "day 1/x.png",
        "day 2/x.png",
    ]
    assert [file.path for file in files] == [tree / file.relative for file in files]


def test_hidden_folder_is_searched_if_it_is_named_itself(tree: Path) -> None:
    assert relatives(find_images([str(tree / ".cache")])) == ["y.png"]


def test_files_are_placed_below_their_deepest_common_folder(tree: Path) -> None:
    """Two images of one name in two folders stay two, in a mirrored tree."""
    files = find_images([str(tree / "day 2/x.png"), str(tree / "day 1/x.png")])
    assert relatives(files) == ["day 1/x.png", "day 2/x.png"]
    assert relatives(find_images([str(tree / "day 1/x.png")])) == ["x.png"]
    both = find_images([str(tree / "day 1"), str(tree / "b.png")])
    assert relatives(both) == ["b.png", "day 1/deep/x.tiff", "day 1/x.png"]


def test_image_named_twice_is_found_once(tree: Path) -> None:
    detour = tree / "day 2" / ".." / "b.png"
    files = find_images([str(tree / "b.png"), str(tree / "*.png"), str(tree), str(detour)])
    assert relatives(files).count("b.png") == 1
    assert len(files) == 5


def test_globs_are_expanded_and_leave_out_what_is_no_image(tree: Path) -> None:
    assert relatives(find_images([str(tree / "*")]))[:2] == ["a.JPG", "b.png"]
    assert relatives(find_images([str(tree / "day ?" / "x.*")])) == ["day 1/x.png", "day 2/x.png"]
    assert relatives(find_images([str(tree / "**" / "x.tiff")])) == ["x.tiff"]


def test_existing_name_with_brackets_is_no_glob(tmp_path: Path) -> None:
    touch(tmp_path / "part[1].png", tmp_path / "part1.png")
    assert relatives(find_images([str(tmp_path / "part[1].png")])) == ["part[1].png"]


def test_paths_are_found_relative_to_the_working_folder(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `..` too: an output must never be placed outside of the output folder."""
    monkeypatch.chdir(tree / "day 2")
    files = find_images([os.path.join("..", "day 1", "x.png"), "x.png"])  # noqa: PTH118
    assert relatives(files) == ["day 1/x.png", "day 2/x.png"]
    assert [file.path for file in files] == [tree / "day 1/x.png", tree / "day 2/x.png"]
    assert relatives(find_images(["."])) == ["x.png"]


def test_link_to_an_image_keeps_its_name_and_link_to_a_folder_is_followed(tree: Path) -> None:
    (tree / "day 2/linked.png").symlink_to(tree / "b.png")
    (tree.parent / "alias").symlink_to(tree / "day 2", target_is_directory=True)
    files = find_images([str(tree.parent / "alias"), str(tree / "day 2")])
    assert relatives(files) == ["linked.png", "x.png"]
    assert relatives(find_images([str(tree / "day 2/linked.png")])) == ["linked.png"]


def test_output_folder_inside_the_input_is_left_out(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tree / "results/overlays/b.png")
    assert len(find_images([str(tree)])) == 6
    monkeypatch.chdir(tree)
    for exclude in (tree / "results", Path("results"), Path("day 1/../results")):
        assert "results/overlays/b.png" not in relatives(find_images(["."], exclude=exclude))
        assert len(find_images(["."], exclude=exclude)) == 5


def test_folder_with_a_longer_name_than_the_output_is_not_left_out(tree: Path) -> None:
    touch(tree / "results 2/b.png")
    files = find_images([str(tree)], exclude=tree / "results")
    assert "results 2/b.png" in relatives(files)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", r"missing\.png does not exist and matches no image"),
        ("nothing/*.png", r"\*\.png does not exist and matches no image"),
        ("notes.txt", r"notes\.txt is not an image; expected avif, bmp, gif, jfif"),
        ("folder.png", r"no images under .*folder\.png; expected avif, bmp"),
    ],
)
def test_input_without_images_is_refused_by_name(tree: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_images([str(tree / name)])


def test_one_missing_input_is_refused_though_another_is_there(tree: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.png does not exist"):
        find_images([str(tree / "b.png"), str(tree / "missing.png")])


def test_listing_of_a_folder_is_flat_and_sorted(tree: Path) -> None:
    assert list_folder(tree) == [tree / "a.JPG", tree / "b.png"]
    assert list_folder(tree / "nowhere") == []


@pytest.mark.parametrize(
    ("name", "expected"), [("a.PNG", True), ("a.tar.gif", True), ("._a.png", False), ("png", False)]
)
def test_images_are_recognised_by_their_names(name: str, expected: bool) -> None:
    assert is_image(Path(name)) is expected


# Names of outputs


def stems(*names: str) -> list[str]:
    files = [ImageFile(Path("/data") / name, Path(name)) for name in names]
    return [stem.as_posix() for stem in output_stems(files)]


def test_output_is_named_as_its_image_without_suffix() -> None:
    assert stems("a/x.png", "b/x.png", "a/y.v2.jpg") == ["a/x", "b/x", "a/y.v2"]


def test_images_that_differ_in_their_suffix_alone_both_keep_it() -> None:
    assert stems("a/x.png", "a/x.jpg", "b/x.png") == ["a/x.png", "a/x.jpg", "b/x"]


def test_images_that_differ_in_case_alone_keep_their_suffix() -> None:
    """On macOS and Windows `X` and `x` are one file."""
    assert stems("X.png", "x.jpg", "y.png") == ["X.png", "x.jpg", "y"]


def test_images_that_no_name_can_distinguish_are_refused() -> None:
    with pytest.raises(DataError, match=r"x\.png and X\.PNG would be written to the same file"):
        stems("x.png", "X.PNG")
    with pytest.raises(DataError, match=r"x\.png and x\.png\.png would be written to the same"):
        stems("x.png", "x.jpg", "x.png.png")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda folder, stem, suffix: f"{folder}{stem}{suffix}",
            st.sampled_from(["", "a/", "a/b/", "A/"]),
            st.sampled_from(["x", "y", "X", "x.png"]),
            st.sampled_from([".png", ".jpg", ".PNG"]),
        ),
        unique=True,
        max_size=8,
    )
)
def test_no_two_outputs_ever_share_a_file(names: list[str]) -> None:
    try:
        chosen = stems(*names)
    except DataError:
        return
    assert len({stem.casefold() for stem in chosen}) == len(names)


# Writing


def test_rgb_png_is_read_back_as_written(tmp_path: Path) -> None:
    image = noise(6, 5)
    write_png(tmp_path / "new" / "x.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "x.png"), image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (257, 129)])
def test_png_of_any_shape_is_read_by_other_programs(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = noise(*shape)
    write_png(tmp_path / "x.png", image)
    opened = cv2.imread(str(tmp_path / "x.png"))
    assert opened is not None
    np.testing.assert_array_equal(opened[..., ::-1], image)
    with Image.open(tmp_path / "x.png") as picture:
        picture.verify()  # the checksum of every chunk


def test_mask_is_written_as_0_and_255_and_read_back(tmp_path: Path) -> None:
    mask = noise(6, 5)[..., 0] > 127
    write_png(tmp_path / "mask.png", mask)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L"
        assert np.unique(np.asarray(image)).tolist() == [0, 255]
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), mask)


def test_grey_png_has_one_channel(tmp_path: Path) -> None:
    grey = noise(6, 5)[..., 0]
    write_png(tmp_path / "grey.png", grey)
    with Image.open(tmp_path / "grey.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), grey)


def test_palette_png_stores_levels_and_shows_colours(tmp_path: Path) -> None:
    palette = noise(256, 1)[:, 0]
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_png(tmp_path / "heat.png", levels, palette=palette)
    with Image.open(tmp_path / "heat.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), levels)
    np.testing.assert_array_equal(read_image(tmp_path / "heat.png"), palette[levels])


def test_map_tiff_keeps_every_bit_of_its_floats(tmp_path: Path) -> None:
    extremes = [0.0, -0.0, 1e-40, -1.5, 3.4e38, np.inf, 0.1]
    anomaly_map = np.array([extremes], np.float32)
    write_tiff(tmp_path / "map.tiff", anomaly_map)
    for read in (
        tifffile.imread(tmp_path / "map.tiff"),
        np.asarray(Image.open(tmp_path / "map.tiff")),
    ):
        assert read.dtype == np.float32
        assert read.tobytes() == anomaly_map.tobytes()


def test_same_picture_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, noise(20, 20))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_writing_below_a_file_is_an_output_error_that_names_it(tmp_path: Path) -> None:
    touch(tmp_path / "file")
    for write, array in ((write_png, noise(2, 2)), (write_tiff, np.zeros((2, 2), np.float32))):
        with pytest.raises(OutputError, match=r"cannot write .*file.x\.out"):
            write(tmp_path / "file" / "x.out", array)
