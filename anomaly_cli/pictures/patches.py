"""Pictures of an unusual place beside the normal patch that is nearest to it."""

from typing import NamedTuple

import cv2
import numpy as np

from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.resize import resize_image

Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of an image
_AROUND = 3.0  # side of a crop in terms of the longer side of its box


class ComparedPatch(NamedTuple):
    """An unusual place of an image, and the normal patch that it was compared with."""

    own: RGBImage  # (H, H, 3), the place with its surroundings
    normal: RGBImage | None  # (H, H, 3), the normal patch; None: its image is not at hand
    name: str  # of the image that the patch is from
    distance: float  # between the two, 1 on average for places of normal images


def crop_around(image: RGBImage, box: Box, side: int) -> RGBImage:
    """Cut out a box with its surroundings, enlarge it to (side, side, 3), and frame the box.

    Beyond the border, the pixels of the border are repeated.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    reach = max(1, round(max(right - left, bottom - top) * _AROUND / 2))
    x, y = round((left + right) / 2), round((top + bottom) / 2)
    rows = np.clip(np.arange(y - reach, y + reach), 0, height - 1)
    columns = np.clip(np.arange(x - reach, x + reach), 0, width - 1)
    crop = np.ascontiguousarray(resize_image(image[rows][:, columns], side, side))
    scale = side / (2 * reach)
    start = (round((left - x + reach) * scale), round((top - y + reach) * scale))
    stop = (round((right - x + reach) * scale), round((bottom - y + reach) * scale))
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.rectangle(crop, start, stop, colour, thickness)
    return crop
