"""Training that sees small images first and whole ones at the end."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.training_set import TrainingSet
from anomaly_cli.objectives import (
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
    """What the settings ask for, and of both sizes where the images have been read at both."""
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
    """One objective for images of half the side at first, and then the same for whole ones.

    A quarter of the cost teaches most of what there is to learn, and what is learned on small
    images finds finer defects in large ones (docs/decisions/0011).

    Args:
        half: for the first epochs.
        full: for the others; it shares its state with `half`.
        half_epochs: how many the first ones are.
    """

    def __init__(self, half: Objective, full: Objective, half_epochs: int) -> None:
        self.half, self.full = half, full
        self.half_epochs = half_epochs
        self.state = full.state
        self._current = half

    def loader(self, epoch: int, *, workers: int) -> DataLoader[Any]:
        """The batches of one epoch, at the size whose turn it is."""
        self._current = self.half if epoch <= self.half_epochs else self.full
        return self._current.loader(epoch, workers=workers)

    def losses(self, batch: Any, noise: torch.Generator) -> Losses:
        """Losses of one batch that `loader` gave."""
        return self._current.losses(batch, noise)

    def after_backward(self) -> None:
        """Look at the gradients of the batch."""
        self._current.after_backward()

    def held_out_losses(self) -> HeldOutLosses:
        """At the size of the last epoch."""
        return self._current.held_out_losses()
