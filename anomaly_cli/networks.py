"""Which network a model file holds, as plain JSON values."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from models.config import OneClassConfig, OneClassConvConfig, VAEConfig

_CONV = "conv"


def write_network(config: OneClassConfig) -> dict[str, Any]:
    """The settings of a network. ResNet18 goes without a name: it was the only one at first."""
    values = asdict(config)
    if isinstance(config, OneClassConvConfig):
        return {"network": _CONV} | values | {"channels": list(config.channels)}
    return values


def read_network(values: Mapping[str, Any]) -> OneClassConfig:
    """The inverse of `write_network`.

    Raises:
        KeyError, TypeError, ValueError: the values are no settings of a network.
    """
    settings = dict(values)
    network = settings.pop("network", None)
    if network is None:
        return VAEConfig(**settings)
    if network != _CONV:
        raise ValueError(f"no network {network}")
    return OneClassConvConfig(**settings | {"channels": tuple(settings["channels"])})
