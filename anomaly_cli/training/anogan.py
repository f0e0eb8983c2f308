"""Training objective of AnoGAN: generator and discriminator against each other, in one step."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.loop import Trainer
from anomaly_cli.training.objectives import HeldOutLosses, ImageObjective, Losses
from models.anogan import AnoGAN, Discriminator
from models.config import AnoGANConfig
from models.tiling import random_patches

NOISE = 0.2  # standard deviation; the images are in [0, 1]
SCALE = 0.005  # brings the gradient of the loss to the size that --gradient-clip expects


def start_anogan(config: TrainConfig, images: TrainingSet, device: torch.device) -> Trainer:
    """Make a trainer of AnoGAN before its first epoch."""
    model = config.network
    assert isinstance(model, AnoGANConfig)  # noqa: S101 - the table of methods sees to it
    network = AnoGAN(model).to(device)
    objective = AnoGANObjective(network, images, config, device)
    return Trainer(network, objective, config, device, images=len(images.fit))


class AnoGANObjective(ImageObjective):
    """Losses of a GAN that learns normal images, or random patches of them.

    The discriminator learns to tell real images from drawn ones, and the generator to be taken for
    real (the non-saturating loss of Goodfellow et al. 2014). Two things are not as in DCGAN:

    - Generator and discriminator take their step at once. In DCGAN they take turns.
    - The discriminator sees all images with Gaussian noise (Sønderby et al., Amortised MAP
      Inference for Image Super-Resolution, ICLR 2017). Without it, it tells a few hundred images
      from drawn ones after a few steps, and the generator hardly learns.

    A GAN has no likelihood that could select an epoch, so the last one is kept.

    Args:
        network: in train mode, except for `held_out_losses`.
        images: normal images of the side that the network's settings name.
        config: batch size and seed.
        device: of the network.
    """

    names: tuple[str, ...] = ("generator", "discriminator")
    betas: tuple[float, float] = (0.5, 0.999)  # of Adam, as in DCGAN

    def __init__(
        self, network: AnoGAN, images: TrainingSet, config: TrainConfig, device: torch.device
    ) -> None:
        super().__init__(images.fit, images.held_out, config, device)
        self.network = network

    def losses(self, batch: Tensor, noise: torch.Generator) -> Losses:
        """Compute the losses of normal images (B, 3, S, S), or of one patch of each.

        The discriminator's loss has no gradient in the generator, nor the generator's in the
        discriminator.
        """
        images = batch.to(self.device, non_blocking=True)
        generator, discriminator = self._losses(images, noise)
        return Losses(SCALE * (generator + discriminator), (generator, discriminator))

    @torch.no_grad()
    def held_out_losses(self) -> HeldOutLosses:
        """Compute the losses of the held-out images, which select nothing."""
        noise = torch.Generator(self.device).manual_seed(self.config.seed)
        totals = torch.zeros(2, dtype=torch.float64)
        for batch in self.held_out.batches(self.config.batch_size):
            losses = self._losses(batch.to(self.device), noise)
            totals += len(batch) * torch.stack(losses).double().cpu()
        generator, discriminator = (totals / len(self.held_out)).tolist()
        return HeldOutLosses((generator, discriminator), None, self.held_out.size)

    def _losses(self, images: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Compute the losses of generator and discriminator, in nats."""
        network = self.network
        real = _add_noise(random_patches(images, network.config.input_size, noise), noise)
        drawn = network.generator(network.draw_latents(len(real), noise))
        drawn = _add_noise(drawn, noise)
        # As in DCGAN, batch norm sees real and drawn images apart.
        discriminator = _misfit(network.discriminator(real), is_real=True) + _misfit(
            network.discriminator(drawn.detach()), is_real=False
        )
        generator = _misfit(_judge_as_constant(network.discriminator, drawn), is_real=True)
        return generator, discriminator


def _add_noise(images: Tensor, noise: torch.Generator) -> Tensor:
    return images + NOISE * torch.randn(images.shape, generator=noise, device=images.device)


def _misfit(logits: Tensor, *, is_real: bool) -> Tensor:
    """Compute the cross-entropy of logits (B,) for one of the two classes, averaged, in nats."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(is_real)))


def _judge_as_constant(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Compute logits (B,) whose gradient reaches the images, but not the discriminator."""
    constants = {name: value.detach() for name, value in discriminator.named_parameters()}
    # Copies: these images have updated the moving averages of batch norm once already.
    constants |= {name: buffer.clone() for name, buffer in discriminator.named_buffers()}
    logits: Tensor = functional_call(discriminator, constants, (images,))
    return logits
