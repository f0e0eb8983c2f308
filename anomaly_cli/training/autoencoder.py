"""Training objective of the autoencoders: to rebuild normal images."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.images import batch_loader, collate_images, epoch_order
from anomaly_cli.training.loop import Trainer
from anomaly_cli.training.objectives import ADAM_BETAS, HeldOutLosses, Losses
from models.autoencoder import Autoencoder, reconstruction_loss
from models.config import AutoencoderConfig


def start_autoencoder(config: TrainConfig, images: TrainingSet, device: torch.device) -> Trainer:
    """Make a trainer of an autoencoder before its first epoch."""
    model = config.network
    assert isinstance(model, AutoencoderConfig)  # noqa: S101 - the table of methods sees to it
    network = Autoencoder(model).to(device)
    objective = AutoencoderObjective(network, images, config, device)
    return Trainer(network, objective, config, device, images=len(images.fit))


class AutoencoderObjective:
    """Reconstruction loss of whole images, or of a random patch of each.

    Its only part, `reconstruction`, is the squared error per pixel value, or 1 - SSIM per pixel:
    the mean of the anomaly maps. The held-out images are mapped as in use, with all of their
    patches.
    """

    names: tuple[str, ...] = ("reconstruction",)
    betas: tuple[float, float] = ADAM_BETAS

    def __init__(
        self,
        network: Autoencoder,
        images: TrainingSet,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        self.network = network
        self.fit = images.fit
        self.held_out = images.held_out
        self.config = config
        self.device = device
        self.state: nn.Module = nn.Module()

    def loader(self, epoch: int, *, workers: int) -> DataLoader[Any]:
        """Make a loader of augmented images (B, 3, S, S) of one epoch."""
        self.fit.epoch = epoch
        batches = epoch_order(self.fit, epoch, self.config.batch_size)
        return batch_loader(self.fit, batches, collate_images, workers=workers)

    def losses(self, batch: Tensor, noise: torch.Generator) -> Losses:
        """Compute the loss of normal images (B, 3, S, S); `noise` draws the places of patches."""
        images = batch.to(self.device, non_blocking=True)
        inputs = self.network.draw_inputs(images, noise)
        with self._autocast():
            logits = self.network(inputs)
        loss = reconstruction_loss(logits, inputs, self.network.config)
        return Losses(loss, (loss.detach(),))

    def after_backward(self) -> None:
        """Do nothing: this objective does not use gradients."""

    @torch.no_grad()
    def held_out_losses(self) -> HeldOutLosses:
        """Compute the mean of the anomaly maps of the held-out images, which selects the model."""
        total = 0.0
        for batch in self.held_out.batches(self.config.batch_size):
            maps = self.network.anomaly_maps(batch.to(self.device))
            total += float(maps.double().mean(dim=(1, 2)).sum())
        loss = total / len(self.held_out)
        return HeldOutLosses((loss,), loss, self.held_out.size)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.config.amp))
