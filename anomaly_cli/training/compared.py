"""What the methods that the paper compares itself with share when they are trained."""

import torch
from torch import nn

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.checkpoint import make_mapper
from anomaly_cli.detector.maps import map_specs
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.described import Described


def describe_network(
    network: nn.Module, images: TrainingSet, config: TrainConfig, device: torch.device
) -> Described:
    """Name the map of a trained network, which holds all that it knows of normal images."""
    del images  # statistics of a VAE would need them
    own = [spec for spec in map_specs(config.network) if spec.source == config.model.method]
    return Described(make_mapper(network, None, config.network, device), tuple(own))
