"""What lies beside the images, and the pages behind the first one, is not left out in silence."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Trained, run_cli
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from anomaly_cli.files.images import find_images
from anomaly_cli.files.read import count_pages, read_image
from anomaly_cli.files.tiff import MOST_PAGES


def save_pages(path: Path, count: int = 3) -> Path:
    pages = [Image.fromarray(np.full((64, 64, 3), 80 * i, np.uint8)) for i in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


@pytest.mark.parametrize("suffix", ["gif", "tiff", "webp", "png"])
def test_pages_and_frames_are_counted(tmp_path: Path, suffix: str) -> None:
    assert count_pages(save_pages(tmp_path / f"several.{suffix}")) == 3
    assert count_pages(save_pages(tmp_path / f"one.{suffix}", 1)) == 1


def test_a_smaller_copy_is_no_further_page(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((64, 64), np.uint8))
        writer.write(np.zeros((16, 16), np.uint8), subfiletype=1)
    assert count_pages(path) == 1


def test_a_damaged_way_to_the_next_page_is_no_further_page(tmp_path: Path) -> None:
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8))
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.offset + 2 + 12 * len(file.pages.first.tags)
    content = bytearray(path.read_bytes())
    content[place : place + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    assert read_image(path).shape == (8, 8, 3)
    assert count_pages(path) == 1


@pytest.mark.parametrize("cut", [1, 5, 20, 60])
def test_a_damaged_further_frame_is_no_damaged_picture(tmp_path: Path, cut: int) -> None:
    path = save_pages(tmp_path / "cut.gif")
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_image(path).shape == (64, 64, 3)
    assert count_pages(path) in {1, 2, 3}


def test_frames_that_cannot_be_counted_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Pillow fails on a byte of a GIF file that is cut in the middle of a further frame."""
    path = save_pages(tmp_path / "several.gif")

    def fail(_image: object) -> int:
        raise IndexError("index out of range")

    monkeypatch.setattr(GifImageFile, "n_frames", property(fail))
    assert count_pages(path) == 1


def test_pages_that_lead_in_a_circle_are_counted_to_an_end(tmp_path: Path) -> None:
    path = tmp_path / "circle.tif"
    with tifffile.TiffWriter(path) as writer:
        for value in range(3):
            writer.write(np.full((8, 8), value, np.uint8), contiguous=False)
    with tifffile.TiffFile(path) as file:
        second, third = file.pages[1], file.pages[2]
        place = third.offset + 2 + 12 * len(third.tags)
    content = bytearray(path.read_bytes())
    content[place : place + 4] = second.offset.to_bytes(4, "little")
    path.write_bytes(content)
    assert 3 <= count_pages(path) <= MOST_PAGES


def test_other_files_are_told_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.heic", "deep/c.HEIC", "deep/d", ".hidden.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told: list[str] = []
    assert len(find_images([str(tmp_path)], on_left_out=told.append)) == 1
    assert len(told) == 1
    assert told[0].startswith("2 .heic, 1 no suffix: no images by their names; read are avif, bmp")


def test_localize_names_what_it_does_not_read(trained: Trained, tmp_path: Path) -> None:
    save_pages(tmp_path / "images/scan.tiff")
    (tmp_path / "images/photo.heic").touch()
    outcome = run_cli("localize", trained.model, tmp_path / "images", "--output", tmp_path / "out")
    assert outcome.code == 0
    assert "left out: 1 .heic: no images by their names" in outcome.stderr
    assert "1 of 1 images, such as" in outcome.stderr
    assert "have several pages or frames, of which the first is read" in outcome.stderr


def test_train_and_evaluate_name_what_they_do_not_read(trained: Trained, tmp_path: Path) -> None:
    data = tmp_path / "mvtec"
    shutil.copytree(trained.data, data)
    (data / "disc/train/good/new.heic").touch()
    (data / "disc/test/good/new.heic").touch()
    save_pages(data / "disc/test/good/scan.tiff")
    outcome = run_cli(
        "train", "--data", data, "--output", tmp_path / "runs", "--guidance", "none",
        "--epochs", 1, "--image-size", 64, "--latent-dim", 4, "--batch-size", 5,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert "left out: 1 .heic" in outcome.stderr
    outcome = run_cli(
        "evaluate", "--data", data, "--runs", trained.runs, "--output", tmp_path / "report",
        "--replicates", 0,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert "left out: 1 .heic" in outcome.stderr
    assert "1 of 7 images" in outcome.stderr
