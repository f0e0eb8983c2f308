"""Pretrained weights of ResNet18, from torchvision or a local file."""

from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import ResNet18_Weights

from anomaly_cli.errors import CheckpointError, ConfigError
from models.resnet import ResNet18Encoder


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
