"""The optimisation loop of the one-class VAE, as a generator of statistics. Prints nothing."""

import csv
import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anomaly_cli.config import TrainConfig
from anomaly_cli.data.normal import NormalImages, epoch_loader
from anomaly_cli.errors import TrainingError
from models.losses import vae_loss_terms
from models.vae import VAE

Weights = dict[str, Tensor]


class StepStats(NamedTuple):
    """One optimiser step; the losses are means over the batch."""

    epoch: int  # from 1
    step: int  # from 1, within the epoch
    steps: int  # of the epoch
    images: int
    reconstruction: float  # nats per image
    kl: float  # nats per image
    gradient_norm: float  # of the loss per pixel value, before clipping


class EpochStats(NamedTuple):
    """One epoch; the training losses are means over its steps."""

    epoch: int
    reconstruction: float
    kl: float
    held_out_reconstruction: float
    held_out_kl: float
    held_out_loss: float  # reconstruction + beta * KL of the held-out normals: selects the model
    gradient_norm: float  # median over the steps
    learning_rate: float  # at the end of the epoch
    images_per_second: float
    is_best: bool


class Trainer:
    """Optimiser, schedule and best weights of one training; `run` resumes where the state stands.

    Every draw is a function of (seed, epoch), so a resumed training ends in the same weights.
    """

    def __init__(
        self,
        vae: VAE,
        fit: NormalImages,
        held_out: NormalImages,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        self.vae = vae
        self.fit = fit
        self.held_out = held_out
        self.config = config
        self.device = device
        self.steps = max(1, len(fit) // config.batch_size)
        self.workers = config.workers if config.workers is not None else 4 * (device.type == "cuda")
        self.optimizer = torch.optim.Adam(vae.parameters(), lr=config.learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=config.learning_rate,
            total_steps=max(2, config.epochs * self.steps),
            pct_start=0.2,
            cycle_momentum=False,
        )
        self.epoch = 0  # finished epochs
        self.best_loss = math.inf
        self.best_weights: Weights = {}

    def run(self) -> Iterator[StepStats | EpochStats]:
        """Train to the last epoch. Yields after each step, and after each epoch.

        Raises:
            TrainingError: a loss or gradient is not finite; `best_weights` are those before it.
        """
        while self.epoch < self.config.epochs:
            start = time.perf_counter()
            steps = []
            for stats in self._train_epoch(self.epoch + 1):
                steps.append(stats)
                yield stats
            rate = sum(stats.images for stats in steps) / (time.perf_counter() - start)
            held_out = self._held_out_losses()
            self.epoch += 1
            yield self._finish_epoch(steps, held_out, rate)

    def _train_epoch(self, epoch: int) -> Iterator[StepStats]:
        self.vae.train()
        loader = epoch_loader(
            self.fit, epoch=epoch, batch_size=self.config.batch_size, workers=self.workers
        )
        noise = torch.Generator(self.device).manual_seed(hash((self.config.seed, epoch)) % 2**63)
        for step, batch in enumerate(loader, start=1):
            images = batch.to(self.device, non_blocking=True)
            reconstruction, kl, norm = self._step(images, noise)
            if not math.isfinite(reconstruction + kl + norm):
                raise TrainingError(
                    f"training diverged in epoch {epoch}, step {step} (reconstruction "
                    f"{reconstruction:g}, KL {kl:g}, gradient norm {norm:g}); "
                    f"lower --learning-rate (now {self.config.learning_rate:g})"
                )
            yield StepStats(epoch, step, self.steps, len(images), reconstruction, kl, norm)

    def _step(self, images: Tensor, noise: torch.Generator) -> tuple[float, float, float]:
        reconstruction, kl = self._loss_terms(images, noise)
        loss = (reconstruction + self.config.model.beta * kl).mean() / images[0].numel()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.vae.parameters(), self.config.gradient_clip)
        # One look at the device for all three, before the weights could take in a NaN.
        values = torch.stack([reconstruction.mean(), kl.mean(), norm]).detach().tolist()
        if all(map(math.isfinite, values)):
            self.optimizer.step()
            self.schedule.step()
        return values[0], values[1], values[2]

    def _loss_terms(
        self, images: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.amp):
            output = self.vae(images, noise)
        # The losses sum over 200,000 values: in bfloat16 nothing would be left of them.
        posterior = type(output.posterior)(*(part.float() for part in output.posterior))
        output = output._replace(posterior=posterior, logits=output.logits.float())
        return vae_loss_terms(output, images, self.config.model.reconstruction)

    @torch.no_grad()
    def _held_out_losses(self) -> tuple[float, float]:
        self.vae.eval()
        totals = torch.zeros(2, dtype=torch.float64)
        for batch in self.held_out.batches(self.config.batch_size):
            terms = self._loss_terms(batch.to(self.device))
            totals += torch.stack([term.double().sum() for term in terms]).cpu()
        reconstruction, kl = (totals / len(self.held_out)).tolist()
        return reconstruction, kl

    def _finish_epoch(
        self, steps: list[StepStats], held_out: tuple[float, float], rate: float
    ) -> EpochStats:
        loss = held_out[0] + self.config.model.beta * held_out[1]
        is_best = loss < self.best_loss
        if is_best:
            self.best_loss = loss
            self.best_weights = clone_weights(self.vae)
        norms = sorted(stats.gradient_norm for stats in steps)
        return EpochStats(
            epoch=self.epoch,
            reconstruction=sum(stats.reconstruction for stats in steps) / len(steps),
            kl=sum(stats.kl for stats in steps) / len(steps),
            held_out_reconstruction=held_out[0],
            held_out_kl=held_out[1],
            held_out_loss=loss,
            gradient_norm=norms[len(norms) // 2],
            learning_rate=float(self.schedule.get_last_lr()[0]),
            images_per_second=rate,
            is_best=is_best,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that `run` needs to go on after the last finished epoch."""
        return {
            "epoch": self.epoch,
            "vae": self.vae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "best_loss": self.best_loss,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of `state_dict`.

        Raises:
            KeyError, RuntimeError, ValueError: it belongs to another network or optimiser.
        """
        self.vae.load_state_dict(state["vae"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch = int(state["epoch"])
        self.best_loss = float(state["best_loss"])
        self.best_weights = dict(state["best_weights"])


def clone_weights(vae: VAE) -> Weights:
    """A copy of the parameters and buffers on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in vae.state_dict().items()}


def to_csv(history: Sequence[EpochStats]) -> str:
    """One line per epoch, named by its fields."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EpochStats._fields)
    writer.writerows(history)
    return text.getvalue()
