"""Training objectives: the loss of a plain VAE, and of a VAE with guided attention."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.together import in_shares
from anomaly_cli.training.images import NormalImages, batch_loader, collate_images, epoch_order
from anomaly_cli.training.painted import (
    PaintedBatch,
    PaintedImage,
    PaintedImages,
    Painter,
    collate_painted,
)
from models.config import vae_config
from models.guidance import GradientBalance, Guidance, guidance_loss
from models.losses import vae_loss_terms
from models.stages import StagedEncoder
from models.vae import VAE, PooledHead, Posterior, VAEOutput


class Losses(NamedTuple):
    """Losses of a batch, scalars."""

    total: Tensor  # the loss to minimise
    parts: tuple[Tensor, ...]  # losses that are reported, not weighted, see `Objective.names`


class HeldOutLosses(NamedTuple):
    """Losses of the held-out normal images, and the one that selects the model."""

    parts: tuple[float, ...]  # see `Objective.names`
    selection: float | None  # selects the model, lower is better; None: the latest is kept
    image_size: int  # pixels a side; losses of two sizes cannot be compared


class Objective(Protocol):
    """Interface of the objectives that `Trainer` minimises."""

    names: tuple[str, ...]  # of the losses that are reported
    betas: tuple[float, float]  # of Adam
    state: nn.Module  # parameters and buffers besides those of the network

    def loader(self, epoch: int, *, workers: int) -> DataLoader[Any]:
        """Make a loader of the batches of one epoch, a function of (seed, epoch) alone."""

    def losses(self, batch: Any, noise: torch.Generator) -> Losses:
        """Compute the losses of one batch from `loader`."""

    def after_backward(self) -> None:
        """Use the gradients of the batch, after its backward pass."""

    def held_out_losses(self) -> HeldOutLosses:
        """Compute the losses of the held-out images; the network is in eval mode."""


# Of a VAE: nats per image, nats per image, and the loss of guided attention or 0.
VAE_LOSSES: tuple[str, ...] = ("reconstruction", "kl", "guidance")
ADAM_BETAS: tuple[float, float] = (0.9, 0.999)


class ImageObjective:
    """What the objectives share whose batches are normal images, and nothing else.

    Args:
        fit: augmented images to learn from.
        held_out: images that select the model.
        config: batch size, and whether to compute in bfloat16.
        device: of the network.
    """

    betas: tuple[float, float] = ADAM_BETAS

    def __init__(
        self, fit: NormalImages, held_out: NormalImages, config: TrainConfig, device: torch.device
    ) -> None:
        self.fit = fit
        self.held_out = held_out
        self.config = config
        self.device = device
        self.state: nn.Module = nn.Module()

    def loader(self, epoch: int, *, workers: int) -> DataLoader[Any]:
        """Make a loader of augmented images (B, 3, S, S) of one epoch."""
        self.fit.epoch = epoch
        batches = epoch_order(self.fit, epoch, self.config.batch_size)
        return batch_loader(self.fit, batches, collate_images, workers=workers)

    def after_backward(self) -> None:
        """Do nothing: these objectives do not use gradients."""

    def autocast(self) -> torch.autocast:
        """Make a context in which the network computes in bfloat16, if the settings say so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.config.amp))


class PlainObjective(ImageObjective):
    """Negative evidence lower bound, as in the paper: reconstruction + beta KL."""

    names = VAE_LOSSES

    def __init__(
        self,
        vae: VAE,
        fit: NormalImages,
        held_out: NormalImages,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        super().__init__(fit, held_out, config, device)
        self.vae = vae
        self.model = vae_config(config.model)

    def losses(self, batch: Tensor, noise: torch.Generator) -> Losses:
        """Compute the losses of normal images (B, 3, S, S)."""
        images = batch.to(self.device, non_blocking=True)
        reconstruction, kl = self._terms(images, noise)
        values = self.vae.targets(images[:1]).numel()  # of one image
        loss = (reconstruction + self.model.beta * kl).mean() / values
        return Losses(loss, (reconstruction.mean(), kl.mean(), torch.zeros_like(loss)))

    @torch.no_grad()
    def held_out_losses(self) -> HeldOutLosses:
        """Compute the bound of the held-out images, which selects the model."""
        totals = torch.zeros(2, dtype=torch.float64)

        def add_terms(batch: Tensor) -> Tensor:
            terms = self._terms(batch.to(self.device))
            return torch.stack([term.double().sum() for term in terms]).cpu()

        for of_batch in in_shares(add_terms, self.held_out.batches(self.config.batch_size)):
            totals += of_batch
        reconstruction, kl = (totals / len(self.held_out)).tolist()
        bound = reconstruction + self.model.beta * kl
        return HeldOutLosses((reconstruction, kl, 0.0), bound, self.held_out.size)

    def _terms(self, images: Tensor, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        with self.autocast():
            output = self.vae(images, noise)
        targets = self.vae.targets(images)
        return vae_loss_terms(_in_float32(output), targets, self.model.reconstruction)


SCALE = 0.01  # brings the gradient of the guided loss to the size that --gradient-clip expects


class _Branches(NamedTuple):
    """Views of the last activation; each collects the gradient of one loss."""

    bound: Tensor  # (B, K, h, w)
    guidance: Tensor  # (B, K, h, w)


class GuidedObjective:
    """Evidence lower bound plus guidance of attention by synthetic defects.

    The encoder gets images with synthetic defects. The decoder has to rebuild the images without
    them, and the attention has to mark the defects.

    Args:
        plain: the bound, with the images and settings.
        painter: draws synthetic defects into the training images.
        validation: held-out images with and without synthetic defects, which select the model.
        ratio: gradient of the guidance over that of the bound, at the last activation.
        begun: an objective for images of another size, whose state this one goes on with.
    """

    names, betas = VAE_LOSSES, ADAM_BETAS

    def __init__(
        self,
        plain: PlainObjective,
        painter: Painter,
        validation: Sequence[PaintedImage],
        ratio: float,
        begun: "GuidedObjective | None" = None,
    ) -> None:
        self.plain = plain
        self.vae = plain.vae
        self.encoder: StagedEncoder = plain.vae.encoder  # type: ignore[assignment]
        self.images = PaintedImages(plain.fit, painter)
        self.validation = validation
        model = plain.model
        grid = model.image_size // model.stride(model.layers[-1])
        self.guidance: Guidance
        self.balance: GradientBalance
        if begun is None:
            self.guidance = Guidance(model.latent_dim, grid).to(plain.device)
            self.balance = GradientBalance(ratio).to(plain.device)
        else:
            self.guidance, self.balance = begun.guidance, begun.balance
        self.state: nn.Module = nn.ModuleList([self.guidance, self.balance])
        self._branches: _Branches | None = None

    def loader(self, epoch: int, *, workers: int) -> DataLoader[Any]:
        """Make a loader of the images of one epoch, most of them with synthetic defects."""
        self.plain.fit.epoch = epoch
        batches = epoch_order(self.plain.fit, epoch, self.plain.config.batch_size)
        return batch_loader(self.images, batches, collate_painted, workers=workers)

    def losses(self, batch: PaintedBatch, noise: torch.Generator) -> Losses:
        """Compute the losses of a batch of images with synthetic defects."""
        batch = batch.to(self.plain.device)
        layer = self.encoder.layers[-1]
        with self.plain.autocast():
            features = self.encoder.features(batch.painted, layer)
            self._branches = _Branches(*(features[-1].view_as(features[-1]) for _ in range(2)))
            for branch in self._branches:
                branch.retain_grad()
            posterior = self.encoder.posterior([*features[:-1], self._branches.bound], layer)
            logits = self.vae.decoder(posterior.sample(noise))
            local = self._local_latents(self._branches.guidance)
        local = local.float()
        output = _in_float32(VAEOutput(posterior, logits))
        targets = self.vae.targets(batch.normal)
        reconstruction, kl = vae_loss_terms(output, targets, self.plain.model.reconstruction)
        bound = (reconstruction + self.plain.model.beta * kl).mean() / targets[0].numel()
        self.guidance.observe(local[~batch.masks.any(dim=(1, 2))])
        misfit = guidance_loss(self.guidance(local, batch.masks.shape[1:]), batch.masks)
        total = SCALE * (self.balance.weight * bound + misfit)
        return Losses(total, (reconstruction.mean(), kl.mean(), misfit))

    def after_backward(self) -> None:
        """Balance the two losses for the next batch."""
        if self._branches is not None:
            bound, guidance = (branch.grad for branch in self._branches)
            assert bound is not None  # noqa: S101 - both were retained
            assert guidance is not None  # noqa: S101
            self.balance.observe(bound / SCALE, guidance / SCALE)
        self._branches = None

    @torch.no_grad()
    def held_out_losses(self) -> HeldOutLosses:
        """Compute the bound, and the guidance on synthetic defects, which selects the model."""
        bound = self.plain.held_out_losses()
        layer, size = self.encoder.layers[-1], self.plain.config.batch_size

        def find(painted: Sequence[PaintedImage]) -> tuple[Tensor, Tensor]:
            batch = collate_painted(list(painted)).to(self.plain.device)
            with self.plain.autocast():
                local = self._local_latents(self.encoder.features(batch.painted, layer)[-1])
            return self.guidance(local.float(), batch.masks.shape[1:]).cpu(), batch.masks.cpu()

        starts = range(0, len(self.validation), size)
        batches = (self.validation[start : start + size] for start in starts)
        logits, masks = zip(*in_shares(find, batches), strict=True)
        misfit = float(guidance_loss(torch.cat(logits), torch.cat(masks)))
        return bound._replace(parts=(*bound.parts[:2], misfit), selection=misfit)

    def _local_latents(self, features: Tensor) -> Tensor:
        head = self.encoder.closed_head(self.encoder.layers[-1])
        assert isinstance(head, PooledHead)  # noqa: S101 - TrainConfig has seen to it
        return head.local_latents(features)


def _in_float32(output: VAEOutput) -> VAEOutput:
    """Convert to float32: a loss sums over 200,000 values, which bfloat16 is too coarse for."""
    posterior = Posterior(*(part.float() for part in output.posterior))
    return VAEOutput(posterior, output.logits.float())
