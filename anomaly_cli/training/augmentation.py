"""Random mirroring, rotation and translation of images, as far as a category tolerates them.

The table is that of plutoyuxie/AutoEncoder-SSIM, the best evidence per category that there is
(`docs/method.md`, augmentation). Objects are translated as well, as in Bergmann et al. 2019.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from anomaly_cli.errors import ConfigError
from anomaly_cli.files.images import RGBImage


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the random changes; by default an image stays as it is."""

    rotation: float = 0.0  # degrees, uniform in [-rotation, rotation]
    translation: float = 0.0  # share of the image's side, uniform in both directions
    mirror_horizontally: bool = False
    mirror_vertically: bool = False


NONE = Augmentation()
_SHIFT = 10 / 256  # 10 px at 256 px
_BOTH = {"mirror_horizontally": True, "mirror_vertically": True}

# An unknown object may be asymmetric and aligned, so it is only shifted a little.
SAFE = Augmentation(translation=_SHIFT)

BY_CATEGORY = {
    "bottle": Augmentation(translation=_SHIFT, **_BOTH),
    "cable": Augmentation(translation=_SHIFT),
    "capsule": Augmentation(translation=_SHIFT),
    "carpet": Augmentation(rotation=10, **_BOTH),
    "grid": Augmentation(rotation=45, **_BOTH),
    "hazelnut": Augmentation(rotation=45, translation=_SHIFT, **_BOTH),
    "leather": Augmentation(rotation=45, **_BOTH),
    "metal_nut": Augmentation(rotation=45, translation=_SHIFT),
    "pill": Augmentation(translation=_SHIFT),
    "screw": Augmentation(translation=_SHIFT, **_BOTH),
    "tile": Augmentation(rotation=45, **_BOTH),
    "toothbrush": Augmentation(translation=_SHIFT, mirror_horizontally=True),
    "transistor": Augmentation(translation=_SHIFT, mirror_horizontally=True),
    "wood": Augmentation(rotation=15, **_BOTH),
    "zipper": Augmentation(translation=_SHIFT, **_BOTH),
    # The photographs of `sample`: brick is an aligned part, grass and gravel are textures.
    "brick": NONE,
    "grass": Augmentation(rotation=45, **_BOTH),
    "gravel": Augmentation(rotation=45, **_BOTH),
}


def select_augmentation(setting: str, category: str) -> Augmentation:
    """Select an augmentation by its name.

    Args:
        setting: "auto" for that of the category, "in-place" for "auto" without translation,
            "none", or the name of another category. "in-place" exists because a VAE cannot encode
            in a few nats by how many pixels an image was shifted: its reconstruction error then
            lies along every edge of a normal part.
        category: the category that is trained.

    Raises:
        ConfigError: the setting is none of these.
    """
    automatic = BY_CATEGORY.get(category, SAFE)
    named = {"auto": automatic, "in-place": replace(automatic, translation=0.0), "none": NONE}
    named |= BY_CATEGORY
    if setting not in named:
        raise ConfigError(f"--augmentation {setting} is unknown; use {', '.join(named)}")
    return named[setting]


def augment(image: RGBImage, ranges: Augmentation, generator: np.random.Generator) -> RGBImage:
    """Apply random changes to an image (H, W, 3); corners are reflected, not black."""
    height, width = image.shape[:2]
    # All random numbers are drawn, used or not, so that the next ones do not depend on the ranges.
    angle, shift_x, shift_y = generator.uniform(-1, 1, 3)
    flip_x, flip_y = generator.random(2) < 0.5
    if ranges.mirror_horizontally and flip_x:
        image = image[:, ::-1]
    if ranges.mirror_vertically and flip_y:
        image = image[::-1]
    if not (ranges.rotation or ranges.translation):
        return np.ascontiguousarray(image)
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.array(cv2.getRotationMatrix2D(centre, angle * ranges.rotation, 1.0), float)
    matrix[:, 2] += ranges.translation * np.array([shift_x * width, shift_y * height])
    warped = cv2.warpAffine(
        np.ascontiguousarray(image),
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(warped, dtype=np.uint8)
