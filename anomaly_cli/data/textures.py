"""Normal images without a download: crops of the photographs that ship inside scikit-image.

The left 60 % of each photograph gives the training crops and the right 40 % the test crops, so
no pixel of a test image was ever trained on.
"""

from enum import StrEnum
from functools import cache

import numpy as np
import skimage.data

from anomaly_cli.images import RGBImage, resize_image

CATEGORIES = ("brick", "grass", "gravel")  # 512 x 512 pixels each, grey
OTHER_DONORS = ("moon", "coffee")  # no categories, but surfaces to cut patches from
TRAINING_SHARE = 0.6  # of the width of a photograph
MIN_CROP, MAX_CROP = 160, 204  # pixels of the photograph; the test region is 205 wide


class Split(StrEnum):
    """Which part of a photograph a crop comes from; the value is the folder of MVTec AD."""

    TRAIN = "train"
    TEST = "test"


@cache
def load_photograph(name: str) -> RGBImage:
    """Load a photograph of scikit-image as (H, W, 3), read-only."""
    photograph = np.asarray(getattr(skimage.data, name)())
    if photograph.ndim == 2:
        photograph = np.repeat(photograph[..., None], 3, axis=2)
    photograph.setflags(write=False)
    return photograph


def load_donors(category: str) -> list[RGBImage]:
    """Load the photographs of every other texture."""
    names = [name for name in (*CATEGORIES, *OTHER_DONORS) if name != category]
    return [load_photograph(name) for name in names]


def load_region(category: str, split: Split) -> RGBImage:
    """Load the part of a category's photograph that belongs to a split, read-only."""
    photograph = load_photograph(category)
    border = round(photograph.shape[1] * TRAINING_SHARE)
    return photograph[:, :border] if split is Split.TRAIN else photograph[:, border:]


def draw_normal(
    category: str, *, split: Split, image_size: int, generator: np.random.Generator
) -> RGBImage:
    """Cut a normal image of random place and scale, mirrored left to right half of the time.

    Returns:
        (image_size, image_size, 3) uint8; crops are smaller than 205 pixels, so a larger
        `image_size` is reached by enlarging.
    """
    region = load_region(category, split)
    side = int(generator.integers(MIN_CROP, MAX_CROP, endpoint=True))
    top, left = generator.integers(0, np.array(region.shape[:2]) - side, endpoint=True)
    crop = resize_image(region[top : top + side, left : left + side], image_size, image_size)
    return crop[:, ::-1].copy() if generator.random() < 0.5 else crop.copy()
