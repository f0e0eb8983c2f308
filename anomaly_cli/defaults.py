"""What `train` takes for options that are not given: by guidance, speed and data set.

Loads no torch. The numbers of the paper's experiments on small images stand in their presets alone.
"""

import tomllib
from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from models.config import Neck, OneClassConfig, Reconstruction, VAEConfig

DatasetName = Literal["mvtec", "mnist", "ucsd", "folder"]
Guidance = Literal["synthetic", "none"]

# Of the convolutions: 28, 14, 7 pixels for MNIST and 100, 50, 25, 12 for UCSD.
CHANNELS: Mapping[str, tuple[int, ...]] = {"mnist": (64, 128), "ucsd": (64, 128, 256)}


def preset_options(dataset: DatasetName, names: Collection[str]) -> dict[str, Any]:
    """Those options of `names`, such as `batch_size`, that the preset of a data set has.

    Empty if the paper has no such experiment.
    """
    if dataset not in CHANNELS:
        return {}
    text = (files("anomaly_cli") / "presets" / f"{dataset}.toml").read_text(encoding="utf-8")
    options = {name.replace("-", "_"): value for name, value in tomllib.loads(text).items()}
    return {name: value for name, value in options.items() if name in names}


_SHAPE = VAEConfig()
HALF_SAVES = 0.75  # of the cost of an image: half its side has a quarter of its pixels


def gains_by_half(model: OneClassConfig) -> bool:
    """Whether `half_size` is worth it: on fewer than 96 pixels little of a product can be seen."""
    return model.can_halve and model.image_size >= 192


class TrainDefaults(NamedTuple):
    """What the command line takes for an option of `train` that is not given."""

    image_size: int = _SHAPE.image_size
    neck: Neck = _SHAPE.neck
    reconstruction: Reconstruction = _SHAPE.reconstruction
    beta: float = _SHAPE.beta
    batch_size: int = 16
    epochs: int = 60
    images_seen: int = 0  # epochs are added until so many were seen; 0: none are
    half_size: float = 0.0  # share of the epochs, the first ones, at half the image size
    learning_rate: float = 1e-3  # peak of the one-cycle schedule
    augmentation: str = "auto"
    held_out: float = 0.1  # share of the normal images that select the model and calibrate it

    @property
    def of_model(self) -> dict[str, Any]:
        """Those that are fields of `VAEConfig`."""
        return {name: value for name, value in self._asdict().items() if hasattr(_SHAPE, name)}

    @property
    def of_training(self) -> dict[str, Any]:
        """The others, which are fields of `TrainConfig`."""
        return {name: value for name, value in self._asdict().items() if not hasattr(_SHAPE, name)}


def train_defaults(
    guidance: Guidance, *, is_fast: bool, dataset: DatasetName = "mvtec"
) -> TrainDefaults:
    """The paper's settings without guidance; with it, those that docs/accuracy.md found better."""
    defaults = TrainDefaults()
    if numbers := preset_options(dataset, TrainDefaults._fields):
        return defaults._replace(**numbers)
    if guidance == "synthetic":
        defaults = TrainDefaults(
            neck="fpn",
            reconstruction="mse",
            beta=0.05,
            batch_size=8,
            epochs=40,
            images_seen=16_000,  # 60 images need as many steps as 300 to learn what a defect is
            half_size=0.75,
            learning_rate=2e-3,
            augmentation="in-place",
            held_out=0.15,  # docs/decisions/0013
        )
        fast = defaults._replace(image_size=128, epochs=20, images_seen=4500, half_size=0.0)
        return fast if is_fast else defaults
    return defaults._replace(image_size=128, epochs=40) if is_fast else defaults
