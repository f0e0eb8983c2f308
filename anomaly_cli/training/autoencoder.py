"""Training objective of the autoencoders: to rebuild normal images."""

import torch
from torch import Tensor

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.together import in_shares
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.loop import Trainer
from anomaly_cli.training.objectives import HeldOutLosses, ImageObjective, Losses
from models.autoencoder import Autoencoder, reconstruction_loss
from models.config import AutoencoderConfig


def start_autoencoder(config: TrainConfig, images: TrainingSet, device: torch.device) -> Trainer:
    """Make a trainer of an autoencoder before its first epoch."""
    model = config.network
    assert isinstance(model, AutoencoderConfig)  # noqa: S101 - the table of methods sees to it
    network = Autoencoder(model).to(device)
    objective = AutoencoderObjective(network, images, config, device)
    return Trainer(network, objective, config, device, images=len(images.fit))


class AutoencoderObjective(ImageObjective):
    """Reconstruction loss of whole images, or of a random patch of each.

    Its only part, `reconstruction`, is the squared error per pixel value, or 1 - SSIM per pixel:
    the mean of the anomaly maps. The held-out images are mapped as in use, with all of their
    patches.
    """

    names: tuple[str, ...] = ("reconstruction",)

    def __init__(
        self, network: Autoencoder, images: TrainingSet, config: TrainConfig, device: torch.device
    ) -> None:
        super().__init__(images.fit, images.held_out, config, device)
        self.network = network

    def losses(self, batch: Tensor, noise: torch.Generator) -> Losses:
        """Compute the loss of normal images (B, 3, S, S); `noise` draws the places of patches."""
        images = batch.to(self.device, non_blocking=True)
        inputs = self.network.draw_inputs(images, noise)
        with self.autocast():
            logits = self.network(inputs)
        loss = reconstruction_loss(logits, inputs, self.network.config)
        return Losses(loss, (loss.detach(),))

    @torch.no_grad()
    def held_out_losses(self) -> HeldOutLosses:
        """Compute the mean of the anomaly maps of the held-out images, which selects the model."""
        total = 0.0

        def add_means(batch: Tensor) -> float:
            maps = self.network.anomaly_maps(batch.to(self.device))
            return float(maps.double().mean(dim=(1, 2)).sum())

        for of_batch in in_shares(add_means, self.held_out.batches(self.config.batch_size)):
            total += of_batch
        loss = total / len(self.held_out)
        return HeldOutLosses((loss,), loss, self.held_out.size)
