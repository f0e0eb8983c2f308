"""Normal images without a download: crops of the photographs that ship with scikit-image.

There are two kinds, as in MVTec AD. Grass and gravel are textures: their images are crops of
random places. The left 60% of the photograph is for training and the right 40% for test, so that
no pixel of a test image is trained on. Brick is an aligned part: all its images show the same
place of the wall, as from a camera that shakes a little, with slightly different light and new
noise in each image.
"""

from enum import StrEnum
from functools import cache

import cv2
import numpy as np
import skimage.data

from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.resize import resize_image

CATEGORIES = ("brick", "grass", "gravel")  # 512 x 512 pixels each, grey
OTHER_DONORS = ("moon", "coffee")  # not categories, only sources of foreign patches
TRAINING_SHARE = 0.6  # of the width of a photograph
MIN_CROP, MAX_CROP = 160, 204  # pixels of the photograph; the test region is 205 wide
ALIGNED = frozenset({"brick"})
ALIGNED_CROP = 200  # pixels of the photograph, around its centre


class Split(StrEnum):
    """Split that a crop belongs to; the value is the name of the folder in MVTec AD."""

    TRAIN = "train"
    TEST = "test"


@cache
def load_photograph(name: str) -> RGBImage:
    """Load a photograph of scikit-image as a read-only array (H, W, 3) uint8."""
    photograph = np.asarray(getattr(skimage.data, name)())
    if photograph.ndim == 2:
        photograph = np.repeat(photograph[..., None], 3, axis=2)
    photograph.setflags(write=False)
    return photograph


def load_donors(category: str) -> list[RGBImage]:
    """Load the photographs of all surfaces but `category`."""
    names = [name for name in (*CATEGORIES, *OTHER_DONORS) if name != category]
    return [load_photograph(name) for name in names]


def load_region(category: str, split: Split) -> RGBImage:
    """Load the part of a category's photograph that belongs to a split, as a read-only view."""
    photograph = load_photograph(category)
    border = round(photograph.shape[1] * TRAINING_SHARE)
    return photograph[:, :border] if split is Split.TRAIN else photograph[:, border:]


def draw_normal(
    category: str, *, split: Split, image_size: int, generator: np.random.Generator
) -> RGBImage:
    """Draw a random normal image: a view of the aligned part, or a crop of a texture.

    Args:
        category: one of `CATEGORIES`.
        split: ignored for an aligned part.
        image_size: side of the image in pixels.
        generator: the only source of randomness.

    Returns:
        Shape (image_size, image_size, 3), uint8. Crops are smaller than 205 pixels, and enlarged
        if `image_size` is larger.
    """
    if category in ALIGNED:
        return _take_part(load_photograph(category), image_size, generator)
    return _cut_texture(category, split, image_size, generator)


def _take_part(photograph: RGBImage, image_size: int, generator: np.random.Generator) -> RGBImage:
    """Simulate a view: up to 1 px of shift, half a degree of turn, 7% of light, and new noise."""
    angle = generator.uniform(-0.5, 0.5)
    centre = np.array(photograph.shape[1::-1]) / 2 + generator.uniform(-1, 1, 2)
    side = max(image_size, ALIGNED_CROP)  # shrunk afterwards, by area, to avoid aliasing
    scale = side / ALIGNED_CROP
    matrix = np.array(cv2.getRotationMatrix2D(centre.tolist(), angle, scale), float)
    matrix[:, 2] += side / 2 - centre
    large = cv2.warpAffine(photograph, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    size = (image_size, image_size)
    take = resize_image(np.asarray(large, np.uint8), *size)
    row, column = np.mgrid[:image_size, :image_size] / image_size - 0.5
    slope = generator.uniform(-0.08, 0.08, 2)
    light = generator.uniform(0.93, 1.07) * (1 + slope[0] * row + slope[1] * column)
    noise = generator.normal(0, 2, size)
    lit = take * light[..., None] + noise[..., None]  # equal noise in all channels: grey stays grey
    return np.asarray(np.clip(np.rint(lit), 0, 255), np.uint8)


def _cut_texture(
    category: str, split: Split, image_size: int, generator: np.random.Generator
) -> RGBImage:
    """Cut a crop of random place and scale, mirrored left to right half of the time."""
    region = load_region(category, split)
    side = int(generator.integers(MIN_CROP, MAX_CROP, endpoint=True))
    top, left = generator.integers(0, np.array(region.shape[:2]) - side, endpoint=True)
    crop = resize_image(region[top : top + side, left : left + side], image_size, image_size)
    return crop[:, ::-1].copy() if generator.random() < 0.5 else crop.copy()
