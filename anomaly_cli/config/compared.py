"""Defaults of the methods that the paper compares itself with. Loads no torch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from anomaly_cli.config.names import TEXTURES
from models.config import (
    AnoGANConfig,
    AutoencoderConfig,
    ComparedConfig,
    DictionaryConfig,
    MethodName,
    OneClassConfig,
)

CONFIGS: Mapping[MethodName, type[ComparedConfig]] = {
    "ae-l2": AutoencoderConfig,
    "ae-ssim": AutoencoderConfig,
    "anogan": AnoGANConfig,
    "feature-dictionary": DictionaryConfig,
}
# Fields of the network and of `TrainConfig`; reasons in docs/decisions/0023 to 0025.
_BY_GRADIENT: Mapping[str, Any] = {
    "guidance": "none",
    "augmentation": "auto",
    "held_out": 0.15,
    "half_size": 0.0,
    "batch_size": 8,
    "epochs": 5,
    "images_seen": 8000,
    "learning_rate": 1e-3,
}
DEFAULTS: Mapping[MethodName, Mapping[str, Any]] = {
    "ae-l2": {**_BY_GRADIENT, "loss": "l2"},
    "ae-ssim": {**_BY_GRADIENT, "loss": "ssim"},
    "anogan": {**_BY_GRADIENT, "images_seen": 32_000},
    "feature-dictionary": {**_BY_GRADIENT, "epochs": 1, "images_seen": 0},
}


# Options that the VAE does not have.
OF_COMPARED = frozenset({"patch_size", "search_steps", "centres", "nearest"})


def in_patches(model: OneClassConfig, category: str) -> OneClassConfig:
    """Let a network that can do so see a texture in patches of half the side, an object whole."""
    if not isinstance(model, AutoencoderConfig | AnoGANConfig):
        return model
    is_cut = category in TEXTURES and not model.patch_size and model.image_size % 64 == 0
    return replace(model, patch_size=model.image_size // 2) if is_cut else model
