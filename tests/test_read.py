"""One reader decides what the values of a file mean; what it cannot tell is refused."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from anomaly_cli.errors import DataError
from anomaly_cli.files.images import find_images
from anomaly_cli.files.limits import Limits
from anomaly_cli.files.read import image_size, is_deep, read_image, read_mask
from anomaly_cli.files.resize import fit_map, resize_image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 20, 3), np.uint8)


def write_tiff(path: Path, values: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, values, **options)
    return path


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_planar_tiff_is_the_same_picture(tmp_path: Path, bits: int, planar: bool) -> None:
    values = COLOUR if bits == 8 else COLOUR.astype(np.uint16) * 257
    stored = np.ascontiguousarray(values.transpose(2, 0, 1)) if planar else values
    kind = "separate" if planar else "contig"
    path = write_tiff(tmp_path / "x.tif", stored, photometric="rgb", planarconfig=kind)
    np.testing.assert_array_equal(read_image(path), COLOUR)


@pytest.mark.parametrize("bits", [8, 16])
def test_where_white_is_zero_the_picture_is_turned_round(tmp_path: Path, bits: int) -> None:
    grey = COLOUR[..., 0]
    values = 255 - grey if bits == 8 else 65535 - grey.astype(np.uint16) * 257
    path = write_tiff(tmp_path / "x.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path)[..., 0], grey)
    assert (read_mask(path) == (grey > 0)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 4), 200.0, np.float32), "floats from 200 to 200; 0 to 1 are read"),
        (np.array([[0.0, 1.5]], np.float64), "floats from 0 to 1.5; 0 to 1 are read"),
        (np.array([[0, 70_000]], np.int32), "integers from 0 to 70000; 0 to 65535 are read"),
        (np.array([[-1, 5]], np.int16), "integers from -1 to 5; 0 to 65535 are read"),
        (np.array([[0, 2**31]], np.uint32), "0 to 65535 are read"),
        (np.array([[np.nan]], np.float32), "values that are not numbers"),
    ],
)
def test_values_of_unknown_meaning_are_refused(
    tmp_path: Path, values: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_image(write_tiff(tmp_path / "x.tif", values))


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32, np.float16, np.float64])
def test_other_types_in_the_known_range_are_read(tmp_path: Path, kind: Any) -> None:
    is_float = np.issubdtype(kind, np.floating)
    values = np.array([[0, 0.25, 1.0]]) if is_float else np.array([[0, 16384, 32767]])
    read = read_image(write_tiff(tmp_path / "x.tif", values.astype(kind)))
    expected = values * 255 if is_float else values * 255 / 65535
    np.testing.assert_array_equal(read[..., 0], np.rint(expected))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    "metadata",
    [
        chunk(b"eXIf", b"garbage!"),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n   4\nzz\n")),
    ],
    ids=["exif", "profile"],
)
def test_broken_metadata_is_no_broken_picture(tmp_path: Path, metadata: bytes) -> None:
    stream = io.BytesIO()
    Image.fromarray(COLOUR).save(stream, "PNG")
    plain = stream.getvalue()
    path = tmp_path / "x.png"
    path.write_bytes(plain[:33] + metadata + plain[33:])
    np.testing.assert_array_equal(read_image(path), COLOUR)
    assert image_size(path) == COLOUR.shape[:2]


def test_what_is_transparent_is_not_marked(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:6] = True
    layer = np.full((6, 8, 4), 255, np.uint8)  # the hidden colour is white
    layer[..., 3] = mask * 255
    Image.fromarray(layer).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), mask)
    black = Image.fromarray(layer[..., :1].repeat(2, axis=2) * 0 + layer[..., [0, 3]], "LA")
    black.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png"), mask)


def test_a_tall_picture_is_converted_like_its_parts(tmp_path: Path) -> None:
    """Pictures are converted in bands of rows, which bounds the memory."""
    tall = RNG.integers(0, 256, (600, 5, 4), np.uint8)
    Image.fromarray(tall).save(tmp_path / "x.png")
    share = tall[..., 3:] / 255
    expected = np.rint(tall[..., :3] * share + 255 * (1 - share))
    assert abs(read_image(tmp_path / "x.png") - expected).max() <= 1
    deep = tall[..., 0].astype(np.uint16) * 257
    for values in (deep, (deep / 65535).astype(np.float32)):
        read = read_image(write_tiff(tmp_path / "x.tif", values))
        np.testing.assert_array_equal(read[..., 0], tall[..., 0])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="no regular file"):
        read_image(tmp_path / "x.png")
    assert [file.path.name for file in find_images([str(tmp_path)])] == ["a.png"]


def test_only_the_decoders_that_are_asked_for_run(tmp_path: Path) -> None:
    """PostScript would start Ghostscript."""
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n")
    with pytest.raises(DataError, match="not an image, or of an unknown format"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_too_many_pixels_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"x{suffix}"
    Image.fromarray(COLOUR).save(path)
    monkeypatch.setattr(Limits, "max_pixels", 239)
    with pytest.raises(DataError, match="20 x 12 pixels; --max-pixels allows 239"):
        read_image(path)
    monkeypatch.setattr(Limits, "max_pixels", 240)
    assert read_image(path).shape == (12, 20, 3)


def test_too_many_bytes_or_too_large_tiles_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """240 pixels of 60 channels, and tiles of 256 pixels."""
    monkeypatch.setattr(Limits, "max_pixels", 240)
    many = write_tiff(tmp_path / "many.tif", np.zeros((12, 20, 60), np.uint16), planarconfig=1)
    with pytest.raises(DataError, match="it has 28,800 bytes of pixels; --max-pixels allows 1,920"):
        read_image(many)
    tiled = write_tiff(tmp_path / "tiled.tif", COLOUR, photometric="rgb", tile=(16, 16))
    with pytest.raises(DataError, match="16 x 16 pixels; --max-pixels allows 240"):
        read_image(tiled)


def test_a_volume_is_no_picture(tmp_path: Path) -> None:
    volume = np.zeros((4, 16, 32), np.uint16)
    path = write_tiff(
        tmp_path / "x.tif", volume, photometric="minisblack", volumetric=True, tile=(4, 16, 16)
    )
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match="it is a volume of 4 pictures"):
            read(path)


@pytest.mark.parametrize("kind", [np.float16, np.uint8])
def test_a_picture_without_pixels_is_refused(tmp_path: Path, kind: Any) -> None:
    path = write_tiff(tmp_path / "x.tif", np.zeros((12, 20), kind))
    width = bytes([0, 1, 4, 0, 1, 0, 0, 0, 20, 0])  # of 256, a number of 32 bits
    content = path.read_bytes()
    assert width in content
    path.write_bytes(content.replace(width, width[:-2] + bytes(2)))
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match="it has no pixels"):
            read(path)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float16])
def test_the_header_of_a_tiff_file_tells_what_is_read(tmp_path: Path, kind: Any) -> None:
    """Also where it is turned, and where Pillow cannot read it."""
    white = {np.uint8: 1, np.uint16: 257, np.float16: 1 / 255}[kind]
    values = (COLOUR[..., 0] * np.float32(white)).astype(kind)
    path = write_tiff(tmp_path / "x.tif", values, extratags=[(274, "H", 1, 6, True)])
    image = read_image(path)
    np.testing.assert_array_equal(image[..., 0], np.rot90(COLOUR[..., 0], -1))
    assert image_size(path) == image.shape[:2]
    assert is_deep(path) == (kind != np.uint8)


@pytest.mark.parametrize(("values", "is_turned"), [((6, 6), True), ("?", False), ((9, 9), False)])
def test_a_damaged_orientation_is_no_damaged_picture(
    tmp_path: Path, values: Any, is_turned: bool
) -> None:
    kind = "s" if isinstance(values, str) else "H"
    tag = (274, kind, 0 if kind == "s" else len(values), values, True)
    path = write_tiff(tmp_path / "x.tif", np.zeros((12, 20), np.float16), extratags=[tag])
    assert image_size(path) == read_image(path).shape[:2] == ((20, 12) if is_turned else (12, 20))


def test_a_damaged_file_prints_nothing(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "x.tif", np.ones((4, 4), np.float16))
    path.write_bytes(path.read_bytes().replace(b"\x16\x01\x03\0", b"\x16\x01\xff\0"))
    code = f"from anomaly_cli.files.read import *; print(read_image(Path({str(path)!r})).shape)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (result.stdout, result.stderr) == ("(4, 4, 3)\n", "")


@pytest.mark.parametrize("suffix", [".jfif", ".jp2", ".avif", ".tga"])
def test_further_formats_are_read(tmp_path: Path, suffix: str) -> None:
    flat = np.full((16, 16, 3), 100, np.uint8)
    path = tmp_path / f"x{suffix}"
    Image.fromarray(flat).save(path, "JPEG" if suffix == ".jfif" else None)
    assert abs(read_image(path).astype(int) - 100).max() <= 2
    assert find_images([str(tmp_path)])[0].path == path


@pytest.mark.parametrize("shape", [(48, 2048), (2048, 48)])
def test_each_axis_is_resized_by_what_it_needs(shape: tuple[int, int]) -> None:
    """A defect of six pixels keeps its light where one axis shrinks and the other grows."""
    for place in range(16):
        image = np.zeros((*shape, 3), np.uint8)
        wide = image if shape[1] > shape[0] else image.swapaxes(0, 1)
        wide[:, 1000 + 2 * place : 1006 + 2 * place] = 255
        resized = resize_image(image, 64, 64)
        expected = 6 * 255 / (2048 / 64) * 64  # of one row, over its columns
        assert abs(resized[..., 0].sum() / 64 - expected / 64) <= 2


@pytest.mark.parametrize("shape", [(7, 9), (48, 2048), (900, 20), (301, 299)])
def test_the_highest_value_of_a_map_stays(shape: tuple[int, int]) -> None:
    """So verdict and mask agree at every size."""
    for seed in range(20):
        anomaly_map = np.random.default_rng(seed).random((64, 64)).astype(np.float32)
        resized = fit_map(anomaly_map, *shape)
        assert resized.shape == shape
        assert resized.max() == anomaly_map.max()
        row, column = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
        peak = np.unravel_index(resized.argmax(), shape)
        assert abs((peak[0] + 0.5) / shape[0] - (row + 0.5) / 64) <= 1 / min(shape[0], 64)
        assert abs((peak[1] + 0.5) / shape[1] - (column + 0.5) / 64) <= 1 / min(shape[1], 64)
