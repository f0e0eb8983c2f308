"""Table of the methods that `train` offers: how each is started, and what is known afterwards."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.training.anogan import start_anogan
from anomaly_cli.training.autoencoder import start_autoencoder
from anomaly_cli.training.compared import describe_network
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.described import Described
from anomaly_cli.training.dictionary import start_dictionary
from anomaly_cli.training.loop import Training
from anomaly_cli.training.vae import describe_vae, start_vae
from models.config import MethodName


class Method(NamedTuple):
    """How a method learns what is normal."""

    start: Callable[[TrainConfig, TrainingSet, torch.device], Training]  # before the first epoch
    describe: Callable[[Any, TrainingSet, TrainConfig, torch.device], Described]  # when trained


METHODS: Mapping[MethodName, Method] = {
    "vae": Method(start_vae, describe_vae),
    "ae-l2": Method(start_autoencoder, describe_network),
    "ae-ssim": Method(start_autoencoder, describe_network),
    "anogan": Method(start_anogan, describe_network),
    "feature-dictionary": Method(start_dictionary, describe_network),
}
