"""The official dSprites file: read without its pickle, refused with one line if not whole."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from numpy.typing import NDArray

from anomaly_cli.disentangle import dsprites
from anomaly_cli.disentangle.dsprites import StoredSprites, factors_of, open_dsprites
from anomaly_cli.disentangle.dsprites_file import read_packed_images
from anomaly_cli.errors import DataError
from anomaly_cli.files.atomic import hash_file

COUNT = 5000  # more than are read at a time
FACTORS = factors_of(np.arange(COUNT))
CLASSES = np.pad(FACTORS, ((0, 0), (1, 0)))
RENDERED = open_dsprites(None)
IMAGES = RENDERED.images(np.arange(COUNT))


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.trace), "w")


def write_npz(path: Path, **arrays: object) -> Path:
    """Write an npz with the pickled metadata of the official one, and `arrays` for its own."""
    content = {"imgs": IMAGES, "latents_classes": CLASSES, "metadata": {"version": 1}} | arrays
    np.savez_compressed(
        path, **{name: value for name, value in content.items() if value is not None}
    )
    return path


def read(path: Path) -> StoredSprites:
    return StoredSprites(read_packed_images(path, FACTORS), source="")


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_images_come_back_bit_by_bit_in_any_order(tmp_path: Path) -> None:
    sprites = read(write_npz(tmp_path / "a.npz"))
    assert len(sprites) == COUNT
    indices = np.random.default_rng(0).integers(0, COUNT, 100)
    images = sprites.images(indices)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES[indices])


@pytest.mark.parametrize("index", [-1, COUNT])
def test_index_out_of_range_is_refused(tmp_path: Path, index: int) -> None:
    sprites = read(write_npz(tmp_path / "a.npz"))
    with pytest.raises(ValueError, match="indices from 0 to 4999"):
        sprites.images(np.array([0, index]))


def test_pickled_metadata_is_not_loaded(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    metadata = np.array(Bomb(trace), dtype=object)
    assert len(read(write_npz(tmp_path / "a.npz", metadata=metadata))) == COUNT
    assert not trace.exists()


@pytest.mark.parametrize("name", ["imgs", "latents_classes"])
def test_pickle_in_place_of_an_array_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    trace = tmp_path / "trace"
    bomb = np.empty(1, object)
    bomb[0] = Bomb(trace)
    path = write_npz(tmp_path / "a.npz", **{name: bomb})
    assert f"{name} in" in refusal(path)
    assert "object" in refusal(path)
    assert not trace.exists()
    with np.load(path, allow_pickle=True) as arrays:
        arrays[name]
    assert trace.exists()  # it would have run


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = write_npz(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "cannot read" in refusal(path)


def test_damaged_byte_is_found(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    assert "cannot read" in refusal(path)


def test_file_that_is_no_zip_or_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("no zip")
    assert "not a zip file" in refusal(tmp_path / "a.npz")
    assert "No such file" in refusal(tmp_path / "b.npz")
    assert "directory" in refusal(tmp_path)
    pickled = tmp_path / "c.npz"
    pickled.write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    assert "not a zip file" in refusal(pickled)
    assert not (tmp_path / "trace").exists()


def test_other_keys_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES[:2], labels=CLASSES[:2])
    message = refusal(tmp_path / "a.npz")
    assert "holds no array imgs, but images, labels; expected dsprites_ndarray" in message
    assert "no array latents_classes" in refusal(
        write_npz(tmp_path / "b.npz", latents_classes=None)
    )


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (IMAGES[:9], r"uint8 of shape (9, 64, 64) where uint8 of shape (5000, 64, 64)"),
        (IMAGES[:, :32], r"shape (5000, 32, 64)"),
        (IMAGES.astype(np.float32), "float32"),
        (np.asfortranarray(IMAGES), "expected"),
        (IMAGES * np.uint8(255), "hold 255"),
        (np.uint8(1), "shape ()"),
    ],
)
def test_other_images_are_refused(tmp_path: Path, images: NDArray[np.generic], reason: str) -> None:
    assert reason in refusal(write_npz(tmp_path / "a.npz", imgs=images))


def test_other_order_is_refused(tmp_path: Path) -> None:
    classes = CLASSES.copy()
    classes[[4500, 4501]] = classes[[4501, 4500]]
    assert "official order" in refusal(write_npz(tmp_path / "a.npz", latents_classes=classes))


@pytest.mark.parametrize(("rows", "reason"), [(COUNT - 1, "ends before"), (COUNT + 1, "more than")])
def test_header_that_lies_is_found(tmp_path: Path, rows: int, reason: str) -> None:
    path = write_npz(tmp_path / "a.npz", imgs=None)
    with zipfile.ZipFile(path, "a") as archive:
        pixels = np.zeros((rows, 64, 64), np.uint8).tobytes()
        archive.writestr("imgs.npy", header(IMAGES.shape, "|u1") + pixels)
    assert reason in refusal(path)


def header(shape: tuple[int, ...], descr: str) -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_part_of_the_file_is_not_dsprites(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shape \(737280, 64, 64\) was expected"):
        open_dsprites(write_npz(tmp_path / "a.npz"))
    with pytest.raises(DataError, match="No such file"):
        open_dsprites(tmp_path / "missing.npz")


def test_file_is_read_in_place_of_the_renderer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first 40,960 images, in ten pieces; all of them take eighteen times as long."""
    count = 40_960
    monkeypatch.setattr(dsprites, "IMAGE_COUNT", count)
    path = write_npz(tmp_path / "whole.npz", imgs=None, latents_classes=None)
    classes = np.pad(factors_of(np.arange(count)), ((0, 0), (1, 0)))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("latents_classes.npy", header(classes.shape, "<i8") + classes.tobytes())
        with archive.open("imgs.npy", "w", force_zip64=True) as stream:
            stream.write(header((count, 64, 64), "|u1"))
            for start in range(0, count, 4096):
                stream.write(RENDERED.images(np.arange(start, start + 4096)).tobytes())
    sprites = open_dsprites(path)
    assert len(sprites) == count
    assert sprites.source == f"sha256:{hash_file(path)}"
    indices = np.random.default_rng(0).integers(0, count, 2000)
    np.testing.assert_array_equal(sprites.images(indices), RENDERED.images(indices))
