"""The optimisation loop of the one-class VAE, as a generator of statistics. Prints nothing."""

import csv
import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.errors import TrainingError
from anomaly_cli.training.objectives import HeldOutLosses, Objective
from models.vae import VAE

Weights = dict[str, Tensor]


class StepStats(NamedTuple):
    """Statistics of one optimiser step; the losses are means over the batch."""

    epoch: int  # from 1
    step: int  # from 1, within the epoch
    steps: int  # of the epoch
    images: int
    image_size: int  # pixels a side
    reconstruction: float  # nats per image
    kl: float  # nats per image
    guidance: float  # loss of the guided attention; 0 without guidance
    gradient_norm: float  # of the loss per pixel value, before clipping


class EpochStats(NamedTuple):
    """Statistics of one epoch; the training losses are means over its steps.

    Losses of the held-out images are None if these were not evaluated after the epoch.
    """

    epoch: int
    reconstruction: float
    kl: float
    guidance: float
    held_out_reconstruction: float | None
    held_out_kl: float | None
    held_out_guidance: float | None  # on synthetic defects in held-out images
    held_out_loss: float | None  # selects the model: guidance if there is any, or the bound
    gradient_norm: float  # median over the steps
    learning_rate: float  # at the end of the epoch
    images_per_second: float
    image_size: int  # pixels a side of the training images
    is_best: bool  # so far, at this size


class Trainer:
    """Optimiser, schedule and best weights of one training.

    `run` goes on after the last finished epoch. Every random draw is a function of (seed, epoch),
    so a resumed training ends in the same weights.
    """

    def __init__(
        self,
        vae: VAE,
        objective: Objective,
        config: TrainConfig,
        device: torch.device,
        *,
        steps: int,
    ) -> None:
        self.vae = vae
        self.objective = objective
        self.config = config
        self.device = device
        self.steps = steps
        self.workers = config.workers if config.workers is not None else 4 * (device.type == "cuda")
        parameters = [*vae.parameters(), *objective.state.parameters()]
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.learning_rate, fused=True)
        total = max(2, config.epochs * self.steps)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=config.learning_rate,
            # In 5 steps the rise would end where it begins, and OneCycleLR would divide by zero.
            total_steps=total + (total == 5),
            pct_start=0.2,
            cycle_momentum=False,
        )
        self.epoch = 0  # finished epochs
        self.best_loss = math.inf
        self.best_size = 0  # pixels; the best weights of a larger size replace those of a smaller
        self.best_weights: Weights = {}

    def run(self) -> Iterator[StepStats | EpochStats]:
        """Train to the last epoch, and yield the statistics of each step and of each epoch.

        Raises:
            TrainingError: a loss or gradient is not finite; `best_weights` are from before that.
        """
        while self.epoch < self.config.epochs:
            start = time.perf_counter()
            steps = []
            for stats in self._train_epoch(self.epoch + 1):
                steps.append(stats)
                yield stats
            rate = sum(stats.images for stats in steps) / (time.perf_counter() - start)
            self.epoch += 1
            yield self._finish_epoch(steps, rate)

    def _train_epoch(self, epoch: int) -> Iterator[StepStats]:
        self.vae.train()
        loader = self.objective.loader(epoch, workers=self.workers)
        noise = torch.Generator(self.device).manual_seed(hash((self.config.seed, epoch)) % 2**63)
        for step, batch in enumerate(loader, start=1):
            reconstruction, kl, guidance, norm = self._step(batch, noise)
            if not math.isfinite(reconstruction + kl + guidance + norm):
                raise TrainingError(
                    f"training diverged in epoch {epoch}, step {step} (reconstruction "
                    f"{reconstruction:g}, KL {kl:g}, gradient norm {norm:g}); "
                    f"lower --learning-rate (now {self.config.learning_rate:g})"
                )
            images = batch if isinstance(batch, Tensor) else batch[0]
            yield StepStats(
                epoch,
                step,
                self.steps,
                len(images),
                images.shape[-1],
                reconstruction,
                kl,
                guidance,
                norm,
            )

    def _step(self, batch: Any, noise: torch.Generator) -> list[float]:
        losses = self.objective.losses(batch, noise)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        self.objective.after_backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
        # One transfer from the device for all four, before a NaN could get into the weights.
        values = torch.stack([*losses[1:], norm]).detach().tolist()
        if all(map(math.isfinite, values)):
            self.optimizer.step()
            self.schedule.step()
        return values

    def _finish_epoch(self, steps: list[StepStats], rate: float) -> EpochStats:
        held_out = self._evaluate() if self._is_evaluated() else None
        is_best = held_out is not None and self._keep_if_best(held_out)
        norms = sorted(stats.gradient_norm for stats in steps)
        return EpochStats(
            epoch=self.epoch,
            reconstruction=sum(stats.reconstruction for stats in steps) / len(steps),
            kl=sum(stats.kl for stats in steps) / len(steps),
            guidance=sum(stats.guidance for stats in steps) / len(steps),
            held_out_reconstruction=held_out and held_out.reconstruction,
            held_out_kl=held_out and held_out.kl,
            held_out_guidance=held_out and held_out.guidance,
            held_out_loss=held_out and held_out.selection,
            gradient_norm=norms[len(norms) // 2],
            learning_rate=float(self.schedule.get_last_lr()[0]),
            images_per_second=rate,
            image_size=steps[0].image_size,
            is_best=is_best,
        )

    def _is_evaluated(self) -> bool:
        """Check whether the held-out images are evaluated after this epoch.

        They are after the last epoch, and after the first, so that training can be stopped early.
        """
        left = self.config.epochs - self.epoch
        return self.epoch == 1 or left % self.config.epochs_per_evaluation == 0

    def _evaluate(self) -> HeldOutLosses:
        self.vae.eval()
        return self.objective.held_out_losses()

    def _keep_if_best(self, held_out: HeldOutLosses) -> bool:
        is_larger = held_out.image_size > self.best_size
        is_best = is_larger or held_out.selection < self.best_loss
        if is_best:
            self.best_size = held_out.image_size
            self.best_loss = held_out.selection
            self.best_weights = clone_weights(self.vae)
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """List all that `run` needs to go on after the last finished epoch."""
        return {
            "epoch": self.epoch,
            "vae": self.vae.state_dict(),
            "objective": self.objective.state.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "best_loss": self.best_loss,
            "best_size": self.best_size,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`.

        Raises:
            KeyError, RuntimeError, ValueError: the state belongs to another network or optimiser.
        """
        self.vae.load_state_dict(state["vae"])
        self.objective.state.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch = int(state["epoch"])
        self.best_loss = float(state["best_loss"])
        self.best_size = int(state["best_size"])
        self.best_weights = dict(state["best_weights"])


def clone_weights(vae: VAE) -> Weights:
    """Copy the parameters and buffers to the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in vae.state_dict().items()}


def to_csv(history: Sequence[EpochStats]) -> str:
    """Write statistics as CSV: a header of field names, and one line per epoch."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EpochStats._fields)
    writer.writerows(history)
    return text.getvalue()
