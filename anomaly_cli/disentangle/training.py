"""Train the VAEs of `disentangle`. The loop yields statistics and prints nothing."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.disentangle.dsprites import SpriteImages
from anomaly_cli.disentangle.metrics.table import MINIMUM_STD
from anomaly_cli.errors import TrainingError
from models.activations import Activation, activate
from models.conv import ConvEncoder
from models.discriminator import JOINT, PERMUTED, Discriminator, permute_dims
from models.gradients import Weighting, signed_maps
from models.losses import (
    attention_disentanglement_loss,
    discriminator_loss,
    latent_pairs,
    total_correlation,
    vae_loss_terms,
)
from models.objective import MapNorm, Objective
from models.vae import VAE, VAEOutput

_SUMMED = 4  # losses of a step that are averaged over a stretch


class StepStats(NamedTuple):
    """Statistics of a stretch of training steps; NaN if the method has no such term."""

    step: int  # the last of the stretch, from 1
    reconstruction: float  # nats per image; this and the next three are means over the stretch
    kl: float  # nats per image
    total_correlation: float  # nats, the discriminator's estimate
    discriminator_accuracy: float  # 0.5 is chance
    overlap: float  # equation 6 over all pairs of latents, in the last batch; in [0, 1]
    shape_overlap: float  # overlap of maps that are first divided by their sum
    empty_maps: float  # share of maps in the last batch that are all zero, without any overlap
    active_latents: int  # those whose mean has a std of MINIMUM_STD or more in the last batch
    seconds: float  # of the stretch


class Batches(NamedTuple):
    """All random inputs of one step, which depend on seed and step alone."""

    images: Tensor  # (B, 1, H, W) in {0, 1}: the batch of the VAE
    others: Tensor  # (B, 1, H, W): the second batch, whose latents are permuted
    pair: tuple[int, int]  # two distinct latents
    noise: torch.Generator


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Convert images: (B, H, W) uint8 in {0, 1} -> (B, 1, H, W) float32."""
    return torch.from_numpy(images)[:, None].to(device).float()


def attention_maps(activation: Activation, *, create_graph: bool = False) -> Tensor:
    """Compute Grad-CAM of the mean of each latent, ReLU(S_i), in closed form: (B, D, h, w)."""
    signed = signed_maps(activation, [Weighting.MEAN], create_graph=create_graph)
    return F.relu(signed[Weighting.MEAN])


class Trainer:
    """Networks, optimisers and finished steps of one training, which `run` continues.

    A step follows algorithm 2 of Kim and Mnih (2018): a step of the VAE, then one of the
    discriminator on detached latents. Initial weights, data and noise of the VAE are the same for
    every objective.
    """

    def __init__(
        self,
        vae: VAE,
        sprites: SpriteImages,
        objective: Objective,
        config: DisentangleConfig,
        device: torch.device,
    ) -> None:
        assert isinstance(vae.encoder, ConvEncoder)  # noqa: S101 - no other network fits the maps
        # This layout is 1.3 times as fast on a CPU as the default. No layer has a train mode.
        self.vae = vae.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.encoder = vae.encoder
        self.sprites = sprites
        self.objective = objective
        self.config = config
        self.device = device
        self.discriminator = Discriminator(config.latent_dim).to(device)
        # Fused steps take 0.5 instead of 2.5 ms (VAE), and 3 instead of 11 ms (discriminator).
        self.optimizer = torch.optim.Adam(vae.parameters(), lr=config.learning_rate, fused=True)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=config.discriminator_learning_rate,
            betas=(0.5, 0.9),
            fused=True,
        )
        self.report_every = max(1, min(500, config.steps // 200))
        self.step = 0  # finished steps
        self.sums = torch.zeros(_SUMMED, device=device)  # since the last report

    def run(self) -> Iterator[StepStats | None]:
        """Train to the last step; yield statistics after each stretch, None after other steps.

        Raises:
            TrainingError: a loss is not finite.
        """
        start = time.perf_counter()
        while self.step < self.config.steps:
            batches = self.draw(self.step + 1)
            self.train_step(batches)
            self.step += 1
            if self.step % self.report_every and self.step < self.config.steps:
                yield None
            else:
                yield self._report(batches.images, time.perf_counter() - start)
                start = time.perf_counter()

    def draw(self, step: int) -> Batches:
        """Draw the images and the noise of a step, counted from 1."""
        generator = np.random.default_rng([self.config.seed, step])
        indices = generator.integers(0, len(self.sprites), 2 * self.config.batch_size)
        images, others = to_tensor(self.sprites.images(indices), self.device).chunk(2)
        first, second = generator.permutation(self.config.latent_dim)[:2].tolist()
        noise = torch.Generator(self.device).manual_seed(int(generator.integers(2**62)))
        return Batches(images, others, (first, second), noise)

    def train_step(self, batches: Batches) -> None:
        """Train the VAE and the discriminator for one step."""
        layer = self.encoder.layers[-1]
        activation = activate(self.encoder, batches.images, layer, create_graph=True)
        latents = activation.posterior.sample(batches.noise)
        reconstruction, kl, total = self._train_vae(batches, activation, latents)
        accuracy = self._train_discriminator(batches, latents.detach())
        self.sums += torch.stack([reconstruction, kl, total, accuracy]).detach()

    def _train_vae(
        self, batches: Batches, activation: Activation, latents: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Train the VAE for one step.

        Returns:
            Means over the batch of reconstruction, KL and total correlation.
        """
        output = VAEOutput(activation.posterior, self.vae.decoder(latents))
        reconstruction, kl = (term.mean() for term in vae_loss_terms(output, batches.images, "bce"))
        loss = reconstruction + self.objective.beta * kl
        total = torch.full_like(loss, math.nan)
        if self.objective.gamma:
            total = total_correlation(self.discriminator(latents)).mean()
            loss = loss + self.objective.gamma * total
        if self.objective.overlap:
            overlaps = self.overlap(activation, batches.pair)
            loss = loss + self.objective.overlap * overlaps.mean()
        self.optimizer.zero_grad()
        # Without gradients of the discriminator's weights, half of its backward pass is saved.
        loss.backward(inputs=list(self.vae.parameters()))  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return reconstruction, kl, total

    def overlap(self, activation: Activation, draw: tuple[int, int]) -> Tensor:
        """Compute the attention disentanglement loss (B,), differentiable in the weights."""
        maps = attention_maps(activation, create_graph=True)
        pairs = latent_pairs(maps, self.objective.pairs, draw)
        return attention_disentanglement_loss(maps, pairs, self.objective.map_norm)

    def _train_discriminator(self, batches: Batches, latents: Tensor) -> Tensor:
        """Train the discriminator for one step.

        Returns:
            Its accuracy, a scalar; NaN if the method has no discriminator.
        """
        if not self.objective.gamma:
            return torch.full((), math.nan, device=self.device)
        with torch.no_grad():
            others = self.vae.encode(batches.others).sample(batches.noise)
            permuted = permute_dims(others, batches.noise)
        joint, product = self.discriminator(torch.cat([latents, permuted])).chunk(2)
        self.discriminator_optimizer.zero_grad()
        discriminator_loss(joint, product).mean().backward()  # type: ignore[no-untyped-call]
        self.discriminator_optimizer.step()
        right = joint.argmax(dim=1) == JOINT, product.argmax(dim=1) == PERMUTED
        return torch.cat(right).float().mean()

    @torch.no_grad()
    def _report(self, images: Tensor, seconds: float) -> StepStats:
        reconstruction, kl, total, accuracy = (
            self.sums / ((self.step - 1) % self.report_every + 1)
        ).tolist()
        self.sums.zero_()
        if not math.isfinite(reconstruction + kl):
            raise TrainingError(
                f"training diverged before step {self.step} (reconstruction {reconstruction:g}, KL "
                f"{kl:g}); lower --learning-rate (now {self.config.learning_rate:g})"
            )
        activation = activate(self.encoder, images, self.encoder.layers[-1])
        maps = attention_maps(activation)
        pairs = latent_pairs(maps, "all")
        overlap, shape_overlap = (
            attention_disentanglement_loss(maps, pairs, norm).mean().item()
            for norm in get_args(MapNorm)
        )
        return StepStats(
            step=self.step,
            reconstruction=reconstruction,
            kl=kl,
            total_correlation=total,
            discriminator_accuracy=accuracy,
            overlap=overlap,
            shape_overlap=shape_overlap,
            empty_maps=float((maps.flatten(2).amax(dim=2) == 0).float().mean()),
            active_latents=int((activation.posterior.mu.std(dim=0) >= MINIMUM_STD).sum()),
            seconds=seconds,
        )

    def state_dict(self) -> dict[str, Any]:
        """Collect everything that `run` needs to continue after the last finished step."""
        return {
            "step": self.step,
            "sums": self.sums,
            "vae": self.vae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `state_dict`.

        Raises:
            KeyError, RuntimeError, ValueError: the state is of another network or optimiser.
        """
        for name in ("vae", "optimizer", "discriminator", "discriminator_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step = int(state["step"])
        self.sums = state["sums"].to(self.device)
