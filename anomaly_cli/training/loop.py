"""The optimisation loop of a network, as a generator of statistics. Prints nothing."""

import csv
import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.together import average, current_team
from anomaly_cli.errors import ConfigError, TrainingError
from anomaly_cli.training.objectives import HeldOutLosses, Objective

Weights = dict[str, Tensor]


class StepStats(NamedTuple):
    """Statistics of one optimiser step; the losses are means over the batch."""

    epoch: int  # from 1
    step: int  # from 1, within the epoch
    steps: int  # of the epoch
    images: int
    image_size: int  # pixels a side
    losses: tuple[float, ...]  # in the order of `Objective.names`
    gradient_norm: float  # of the loss per pixel value, before clipping


class EpochStats(NamedTuple):
    """Statistics of one epoch; the training losses are means over its steps.

    Losses of the held-out images are None if these were not evaluated after the epoch.
    """

    epoch: int
    losses: tuple[float, ...]  # in the order of `Objective.names`
    held_out: tuple[float, ...] | None  # the same of held-out images
    held_out_loss: float | None  # selects the model; None: the latest is kept
    gradient_norm: float  # median over the steps
    learning_rate: float  # at the end of the epoch
    images_per_second: float
    image_size: int  # pixels a side of the training images
    is_best: bool  # so far, at this size


class Training(Protocol):
    """One training that can be stopped and resumed: a `Trainer`, or one without gradients."""

    config: TrainConfig
    device: torch.device
    steps: int  # of an epoch
    workers: int  # processes that read images
    epoch: int  # finished epochs
    names: tuple[str, ...]  # of the losses in the statistics
    best_weights: Weights  # empty before the first epoch

    @property
    def network(self) -> nn.Module:
        """Network that learns, on the device."""

    def run(self) -> Iterator[StepStats | EpochStats]:
        """Train to the last epoch, and yield the statistics of each step and of each epoch."""

    def evaluate(self) -> HeldOutLosses:
        """Compute the losses of the held-out images."""

    def state_dict(self) -> dict[str, Any]:
        """List all that `run` needs to go on after the last finished epoch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`."""


class Trainer:
    """Optimiser, schedule and best weights of one training.

    `run` goes on after the last finished epoch. Every random draw is a function of (seed, epoch),
    so a resumed training ends in the same weights. Processes that train together share each batch,
    and make the same step.

    Args:
        network: on the device.
        objective: what is minimised.
        config: settings, with the final number of epochs.
        device: where to compute.
        images: number of images of an epoch.

    Raises:
        ConfigError: a batch has fewer images than there are processes.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        config: TrainConfig,
        device: torch.device,
        *,
        images: int,
    ) -> None:
        self.network = network
        self.objective = objective
        self.config = config
        self.device = device
        self.batch_size = min(config.batch_size, images)  # of all processes together
        self.steps = images // self.batch_size
        _require_shares(self.batch_size)
        self.names = objective.names
        self.workers = config.workers if config.workers is not None else 4 * (device.type == "cuda")
        parameters = [*network.parameters(), *objective.state.parameters()]
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=config.learning_rate, betas=objective.betas, fused=True
        )
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
        self.network.train()
        loader = self.objective.loader(epoch, workers=self.workers)
        noise = torch.Generator(self.device).manual_seed(_seed_noise(self.config.seed, epoch))
        for step, batch in enumerate(loader, start=1):
            *losses, norm = self._step(batch, noise)
            if not math.isfinite(sum(losses) + norm):
                parts = zip(self.names, losses, strict=True)
                raise TrainingError(
                    f"training diverged in epoch {epoch}, step {step} ("
                    f"{', '.join(f'{name} {value:g}' for name, value in parts)}, gradient norm "
                    f"{norm:g}); lower --learning-rate (now {self.config.learning_rate:g})"
                )
            yield StepStats(
                epoch,
                step,
                self.steps,
                self.batch_size,
                _images_of(batch).shape[-1],
                tuple(losses),
                norm,
            )

    def _step(self, batch: Any, noise: torch.Generator) -> list[float]:
        losses = self.objective.losses(batch, noise)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        self.objective.after_backward()
        parts = torch.stack(losses.parts).detach()
        self._average([parts], len(_images_of(batch)) / self.batch_size)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
        # One transfer from the device for all, before a NaN could get into the weights.
        values: list[float] = torch.cat([parts, norm[None]]).tolist()
        if all(map(math.isfinite, values)):
            self.optimizer.step()
            self.schedule.step()
        return values

    def _average(self, losses: list[Tensor], share: float) -> None:
        """Average losses, gradients and moving statistics with those of the other processes.

        `DistributedDataParallel` would average gradients as well, but it wraps the forward pass of
        a network, and the objectives call parts of it.

        Args:
            losses: means over the images of this process.
            share: of these images in the batch.
        """
        if current_team() is None:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        average([*losses, *gradients], share)
        buffers = [*self.network.buffers(), *self.objective.state.buffers()]
        average([buffer for buffer in buffers if buffer.is_floating_point()])

    def _finish_epoch(self, steps: list[StepStats], rate: float) -> EpochStats:
        held_out = self.evaluate() if self._is_evaluated() else None
        is_best = held_out is not None and self._keep_if_best(held_out)
        norms = sorted(stats.gradient_norm for stats in steps)
        columns = zip(*(stats.losses for stats in steps), strict=True)
        return EpochStats(
            epoch=self.epoch,
            losses=tuple(sum(column) / len(steps) for column in columns),
            held_out=held_out and held_out.parts,
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

    def evaluate(self) -> HeldOutLosses:
        """Compute the losses of the held-out images."""
        self.network.eval()
        return self.objective.held_out_losses()

    def _keep_if_best(self, held_out: HeldOutLosses) -> bool:
        is_larger = held_out.image_size > self.best_size
        loss = held_out.selection
        is_best = is_larger or loss is None or loss < self.best_loss
        if is_best:
            self.best_size = held_out.image_size
            self.best_loss = math.inf if loss is None else loss
            self.best_weights = clone_weights(self.network)
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """List all that `run` needs to go on after the last finished epoch."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
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
        self.network.load_state_dict(state["network"])
        self.objective.state.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch = int(state["epoch"])
        self.best_loss = float(state["best_loss"])
        self.best_size = int(state["best_size"])
        self.best_weights = dict(state["best_weights"])


def _require_shares(batch_size: int) -> None:
    team = current_team()
    if team is not None and batch_size < team.size:
        raise ConfigError(
            f"{team.size} processes cannot share batches of {batch_size} images; start fewer "
            f"processes, or raise --batch-size"
        )


def _seed_noise(seed: int, epoch: int) -> int:
    """Compute the seed of an epoch's noise, another one in each process."""
    team = current_team()
    key = (seed, epoch) if team is None or team.rank == 0 else (seed, epoch, team.rank)
    return hash(key) % 2**63


def _images_of(batch: Any) -> Tensor:
    images: Tensor = batch if isinstance(batch, Tensor) else batch[0]
    return images


def clone_weights(network: nn.Module) -> Weights:
    """Copy the parameters and buffers to the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def to_csv(history: Sequence[EpochStats], names: Sequence[str]) -> str:
    """Write statistics as CSV, one line per epoch.

    Args:
        history: the epochs.
        names: of the losses.
    """
    held_out = [f"held_out_{name}" for name in names]
    rest = [name for name in EpochStats._fields if name not in {"epoch", "losses", "held_out"}]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *names, *held_out, *rest])
    for epoch, losses, of_held_out, *others in history:
        writer.writerow([epoch, *losses, *(of_held_out or [None] * len(names)), *others])
    return text.getvalue()
