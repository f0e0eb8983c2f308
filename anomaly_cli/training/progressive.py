"""Training on images of half the side first, and on whole images at the end."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.objectives import (
    GuidedObjective,
    HeldOutLosses,
    Losses,
    Objective,
    PlainObjective,
)
from models.vae import VAE


def make_objective(
    vae: VAE, images: TrainingSet, config: TrainConfig, device: torch.device
) -> Objective:
    """Make the objective of the settings; it is progressive if images were read at two sizes."""
    objective = _objective(vae, images, config, device)
    if images.half is None:
        return objective
    half = _objective(vae, images.half, config, device, begun=objective)
    return ProgressiveObjective(half, objective, config.half_epochs)


def _objective(
    vae: VAE,
    images: TrainingSet,
    config: TrainConfig,
    device: torch.device,
    begun: Objective | None = None,
) -> Objective:
    plain = PlainObjective(vae, images.fit, images.held_out, config, device)
    if config.guidance == "none" or images.painter is None:
        return plain
    shared = begun if isinstance(begun, GuidedObjective) else None
    return GuidedObjective(
        plain, images.painter, images.validation, config.guidance_ratio, begun=shared
    )


class ProgressiveObjective:
    """Objective on images of half the side in the first epochs, and on whole images afterwards.

    Images of half the side teach most of what there is to learn at a quarter of the cost. What is
    learned on them finds finer defects in whole images (docs/decisions/0011).

    Args:
        half: objective of the first epochs.
        full: objective of the other epochs; it shares its state with `half`.
        half_epochs: number of the first epochs.
    """

    def __init__(self, half: Objective, full: Objective, half_epochs: int) -> None:
        self.half, self.full = half, full
        self.half_epochs = half_epochs
        self.names, self.betas, self.state = full.names, full.betas, full.state
        self._current = half

    def loader(self, epoch: int, *, workers: int) -> DataLoader[Any]:
        """Make a loader of the batches of one epoch, at the image size of that epoch."""
        self._current = self.half if epoch <= self.half_epochs else self.full
        return self._current.loader(epoch, workers=workers)

    def losses(self, batch: Any, noise: torch.Generator) -> Losses:
        """Compute the losses of one batch from `loader`."""
        return self._current.losses(batch, noise)

    def after_backward(self) -> None:
        """Use the gradients of the batch, after its backward pass."""
        self._current.after_backward()

    def held_out_losses(self) -> HeldOutLosses:
        """Compute the losses of the held-out images, at the image size of the latest epoch."""
        return self._current.held_out_losses()
