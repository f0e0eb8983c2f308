"""`evaluate` warns of everything in a test split that changes its figures."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import SIZE, Trained, run_cli
from PIL import Image

from anomaly_cli.data.checks.doubts import find_doubts
from anomaly_cli.data.mvtec import list_masks, test_samples, training_images
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import write_png
from anomaly_cli.files.read import read_grey_mask, read_mask

Break = Callable[[Path], object]


def invert(folder: Path) -> None:
    for path in (folder / "ground_truth/hole").iterdir():
        write_png(path, ~read_mask(path))


def save_jpeg(folder: Path) -> None:
    path = folder / "ground_truth/hole/001_mask.png"
    Image.open(path).save(path.with_suffix(".jpg"), quality=60)
    path.unlink()


BREAKS: dict[str, tuple[Break, str]] = {
    "inverted": (invert, "3 of 3 masks, such as hole/000_mask.png: most masks mark most of their"),
    "lossy": (save_jpeg, "1 of 3 masks, such as hole/001_mask.jpg: mask is in a lossy format"),
    "grey": (
        lambda d: write_png(
            d / "ground_truth/hole/002_mask.png", np.eye(SIZE, dtype=np.uint8) * np.uint8(9)
            + np.eye(SIZE, k=1, dtype=np.uint8)
        ),
        "1 of 3 masks, such as hole/002_mask.png: mask holds several values besides black",
    ),
    "full": (
        lambda d: write_png(d / "ground_truth/hole/000_mask.png", np.ones((SIZE, SIZE), bool)),
        "1 of 3 masks, such as hole/000_mask.png: mask marks every pixel",
    ),
    "leak": (
        lambda d: shutil.copy(d / "train/good/004.png", d / "test/good/001.png"),
        "1 of 6 test images, such as good/001.png, are also training images",
    ),
    "contradiction": (
        lambda d: shutil.copy(d / "test/hole/000.png", d / "test/good/001.png"),
        "2 of 6 test images, such as good/001.png, are called good and defective at once",
    ),
    "twice": (
        lambda d: shutil.copy(d / "test/good/000.png", d / "test/good/001.png"),
        "1 of 6 test images, such as good/001.png, are copies of others, and count twice",
    ),
}  # fmt: skip


@pytest.fixture
def disc(trained: Trained, tmp_path: Path) -> Path:
    """Copy the data set of the trained model."""
    return Path(shutil.copytree(trained.data / "disc", tmp_path / "mvtec/disc"))


def doubts(folder: Path) -> list[str]:
    samples = test_samples(folder.parent, folder.name)
    return find_doubts(samples, training_images(folder.parent, folder.name))


def test_a_clean_split_is_not_doubted(disc: Path) -> None:
    assert doubts(disc) == []


@pytest.mark.parametrize("name", BREAKS)
def test_each_fault_is_a_sentence(disc: Path, name: str) -> None:
    spoil, sentence = BREAKS[name]
    spoil(disc)
    assert any(text.startswith(sentence) for text in doubts(disc)), doubts(disc)


def test_doubts_are_warned_of_and_stand_in_every_report(
    disc: Path, trained: Trained, tmp_path: Path
) -> None:
    invert(disc)
    output = tmp_path / "report"
    outcome = run_cli(
        "evaluate", "--data", disc.parent, "--runs", trained.runs, "--output", output,
        "--replicates", 0,
    )  # fmt: skip
    assert outcome.code == 0
    sentence = "most masks mark most of their image, as if black was the defect"
    assert sentence in outcome.stderr
    row = json.loads((output / "report.json").read_text())["categories"][0]
    assert sentence in row["lacks"]
    for name in ("report.html", "report.md"):
        assert sentence in (output / name).read_text()


def test_a_mask_in_a_lossy_format_marks_what_its_original_marks(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), bool)
    mask[10:30, 20:50] = True
    for name in ("mask.jpg", "mask.webp", "mask.jp2"):
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / name, quality=40)
        found = read_grey_mask(tmp_path / name)
        assert np.mean(found.mask != mask) < 0.01, name
    exact = tmp_path / "exact.webp"
    Image.fromarray(np.repeat(mask[..., None].astype(np.uint8), 3, axis=2)).save(
        exact, lossless=True
    )
    found = read_grey_mask(exact)
    np.testing.assert_array_equal(found.mask, mask)
    assert not found.is_lossy


def test_a_black_picture_in_a_lossy_format_marks_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "mask.jpg")
    assert not read_mask(tmp_path / "mask.jpg").any()


def test_two_masks_of_one_image_are_refused_with_both_names(disc: Path) -> None:
    folder = disc / "ground_truth/hole"
    shutil.copy(folder / "001_mask.png", folder / "001_mask.bmp")
    with pytest.raises(DataError, match=r"001_mask.bmp and 001_mask.png are masks of one image"):
        list_masks(folder)
    with pytest.raises(DataError, match="keep one of them"):
        test_samples(disc.parent, "disc")
