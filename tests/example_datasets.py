"""Tiny data sets in the published layouts: idx files of bars, and clips of a moving square."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

FRAME = (24, 36)  # height and width, as unequal as those of UCSD


def draw_digit(digit: int, seed: int) -> np.ndarray:
    """Draw a vertical bar for 1, the same under a horizontal one for 7, a square for all others."""
    image = np.zeros((28, 28), np.uint8)
    column = 13 + seed % 3
    if digit in {1, 7}:
        image[5:23, column : column + 3] = 220
    if digit == 7:
        image[5:8, 6:20] = 220
    if digit not in {1, 7}:
        image[8:20, 8:20] = 20 * digit + 40
    return image


def write_idx(path: Path, array: np.ndarray) -> None:
    """Make an idx file of bytes; packed where the name ends so."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(
        size.to_bytes(4, "big") for size in array.shape
    )
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(root: Path, *, suffix: str = ".gz", trained: tuple[int, ...] = (1, 7)) -> Path:
    """Twelve images of each digit to train on, 1 and 7, and two of each of all to test with."""
    splits = {"train": list(trained) * 12, "t10k": list(range(10)) * 2}
    for split, digits in splits.items():
        images = np.stack([draw_digit(digit, seed) for seed, digit in enumerate(digits)])
        raw = root / "MNIST/raw"
        write_idx(raw / f"{split}-images-idx3-ubyte{suffix}", images)
        write_idx(raw / f"{split}-labels-idx1-ubyte{suffix}", np.array(digits))
    return root


def write_ucsd(root: Path, *, frames: int = 6) -> Path:
    """One training clip, one test clip with masks of which the first is empty, and one without."""
    generator = np.random.default_rng(0)
    ground = generator.integers(90, 110, FRAME)
    for clip in ("Train/Train001", "Test/Test001", "Test/Test002"):
        folder = root / "UCSDped2" / clip
        folder.mkdir(parents=True)
        for number in range(1, frames + 1):
            noise = generator.integers(-3, 4, FRAME)
            frame = (ground + noise).astype(np.uint8)
            mask = np.zeros(FRAME, np.uint8)
            if clip == "Test/Test001" and number > 1:
                mask[6:14, 3 * number : 3 * number + 8] = 255
                frame[mask > 0] = 250
            Image.fromarray(frame).save(folder / f"{number:03}.tif")
            if clip == "Test/Test001":
                truth = folder.with_name("Test001_gt")
                truth.mkdir(exist_ok=True)
                Image.fromarray(mask).save(truth / f"{number:03}.bmp")
    return root
