"""Estimate the time of a reproduction on this machine: number of steps times measured time."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.names import STATE_FILE
from anomaly_cli.config.reproduce import REDUCED_MARK, ReproduceConfig
from anomaly_cli.config.train import HALF_SAVES, TrainConfig
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.samples import spread_samples
from anomaly_cli.detector.device import resolve_device
from anomaly_cli.disentangle import costs
from anomaly_cli.disentangle.costs import (
    LEFT_OUT,
    TrainingCost,
    remaining_work,
    time_sprites,
    time_steps,
)
from anomaly_cli.errors import DataError
from anomaly_cli.files.numbers import duration_text
from anomaly_cli.files.tensors import read_state
from anomaly_cli.paper.stages import REDUCED_TEST_IMAGES, Stage, folder_of, is_trained, name_of
from anomaly_cli.progress import Progress
from anomaly_cli.training.dataset import TrainingSet, list_training_images, open_training_set
from anomaly_cli.training.fit import make_trainer
from anomaly_cli.training.loop import Training
from anomaly_cli.training.methods import METHODS
from anomaly_cli.training.split import count_held_out

MAPS = {"table1": 5, "table2": 1}  # anomaly maps that an evaluation computes of each test image
BACKWARD = 3  # forward passes for an anomaly map: one, and about two more for the gradient


class StageCost(NamedTuple):
    """The cost of one training or one evaluation."""

    stage: str
    work: str  # such as "3,900 steps of 0.61 s"
    seconds: float


class Estimate(NamedTuple):
    """The data that tables and figures need, and their costs."""

    needs: Mapping[str, str]  # description of the data, by target
    rows: tuple[StageCost, ...]
    reduction: str  # settings of a reduced run, in words; empty for a full run

    @property
    def seconds(self) -> float:
        """Total time in seconds."""
        return sum(row.seconds for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Convert the estimate to plain JSON values."""
        return {
            "reduced": bool(self.reduction),
            "needs": dict(self.needs),
            "stages": [row._asdict() for row in self.rows],
            "seconds": self.seconds,
        }


def cost_of_epochs(
    each: TrainingCost,
    *,
    fit: int,
    held_out: int,
    batch_size: int,
    epochs: int,
    half: int = 0,
    per_evaluation: int = 1,
) -> tuple[int, float]:
    """Compute the steps and the seconds of a number of epochs.

    Args:
        each: measured times.
        fit: number of training images.
        held_out: number of held-out images.
        batch_size: images per step.
        epochs: number of epochs.
        half: how many of the epochs use images of half the side, which cost less.
        per_evaluation: epochs from one evaluation of the held-out images to the next.
    """
    steps = max(1, fit // batch_size)
    whole = epochs - HALF_SAVES * half
    reading = (fit + held_out) * each.image
    seconds = whole * (steps * each.step + held_out * each.held_out / per_evaluation) + reading
    return steps * epochs, seconds


def total_text(estimate: Estimate) -> str:
    """Describe the total cost."""
    return (
        f"about {duration_text(estimate.seconds)} on this machine (without calibration, {LEFT_OUT})"
    )


def report_needs(estimate: Estimate, progress: Progress) -> None:
    """Report how a run is reduced and which data it needs."""
    if estimate.reduction:
        progress.warn(f"{REDUCED_MARK}: {estimate.reduction}")
    for target, needs in estimate.needs.items():
        progress.note(f"{target} needs {needs}")


def report_estimate(estimate: Estimate, progress: Progress) -> None:
    """Report needs and costs, line by line."""
    report_needs(estimate, progress)
    for row in estimate.rows:
        progress.note(f"  {row.stage}: {row.work}, about {duration_text(row.seconds)}")
    progress.note(f"estimated cost: {total_text(estimate)}")


def estimate(config: ReproduceConfig, stages: Sequence[Stage]) -> list[StageCost]:
    """Estimate the cost of each training and of the evaluations after them.

    A finished training costs nothing more. Each kind of training (data set and guidance, or method)
    is timed once, on this machine and device, with its own network, batch size and images.
    """
    device = resolve_device(config.device)
    measured: dict[str, TrainingCost] = {}
    rows = [_stage_cost(stage, measured, device) for stage in stages]
    for target in config.targets:
        if target in MAPS:
            rows += _evaluation_costs(target, stages, measured, device)
    return rows


def _stage_cost(stage: Stage, measured: dict[str, TrainingCost], device: torch.device) -> StageCost:
    """Estimate the cost of one training.

    Data that cannot be read are no error here: the training itself reports them, and the other
    trainings go on.
    """
    name = f"train {name_of(stage)}"
    if is_trained(stage):
        return StageCost(name, "already finished", 0.0)
    try:
        each = _measure(stage, measured, device)
        if isinstance(stage, DisentangleConfig):
            return _sprite_cost(stage, each)
        return _training_cost(stage, each)
    except DataError as error:
        return StageCost(name, f"unknown: {error}", 0.0)


def _measure(stage: Stage, measured: dict[str, TrainingCost], device: torch.device) -> TrainingCost:
    """Time this kind of training, unless it has been timed before."""
    if isinstance(stage, DisentangleConfig):
        if stage.method not in measured:
            measured[stage.method] = time_sprites(stage, device)
        return measured[stage.method]
    kind = f"{stage.network} {stage.guidance}"  # a texture costs AnoGAN other than an object
    if kind not in measured:
        measured[kind] = _time_training(stage, device)
    return measured[kind]


def _time_training(stage: TrainConfig, device: torch.device) -> TrainingCost:
    steps = costs.WARM_UP + costs.TIMED
    wanted = math.ceil(steps * stage.batch_size / (1 - stage.held_out)) + 1
    limit = min(wanted, stage.limit or wanted)
    probe = replace(stage, limit=limit, epochs=steps, half_size=0)  # an epoch has at least one step
    start = time.perf_counter()
    images = open_training_set(probe)
    reading = (time.perf_counter() - start) / (len(images.fit) + len(images.held_out))
    trainer = make_trainer(probe, images, device)
    step = time_steps(trainer.run(), device)
    start = time.perf_counter()
    trainer.evaluate()
    held_out = (time.perf_counter() - start) / len(images.held_out)
    # The maps of a VAE need statistics of all images.
    seconds = BACKWARD * held_out if stage.model.latents else _time_map(trainer, images)
    return TrainingCost(step, held_out, reading, seconds)


def _time_map(trainer: Training, images: TrainingSet) -> float:
    """Measure the seconds of one anomaly map of a network that computes it alone."""
    config = trainer.config
    network, device = trainer.network.eval(), trainer.device
    known = METHODS[config.model.method].describe(network, images, config, device)
    batch = next(images.held_out.batches(config.batch_size))
    start = time.perf_counter()
    known.mapper(batch, known.specs)
    return (time.perf_counter() - start) / len(batch)


def _training_cost(stage: TrainConfig, each: TrainingCost) -> StageCost:
    images = len(list_training_images(stage))
    held_out = count_held_out(images, stage.held_out)
    stage = replace(stage, epochs=stage.epochs_for(images - held_out))
    finished = _finished_epochs(stage)
    steps, seconds = cost_of_epochs(
        each,
        fit=images - held_out,
        held_out=held_out,
        batch_size=stage.batch_size,
        epochs=stage.epochs - finished,
        half=max(0, stage.half_epochs - finished),
        per_evaluation=stage.epochs_per_evaluation,
    )
    work = f"{steps:,} steps of {duration_text(each.step)}"
    return StageCost(f"train {name_of(stage)}", work, seconds)


def _finished_epochs(stage: TrainConfig) -> int:
    path = folder_of(stage) / STATE_FILE
    return int(read_state(path)["trainer"]["epoch"]) if path.exists() else 0


def _sprite_cost(stage: DisentangleConfig, each: TrainingCost) -> StageCost:
    steps, images = remaining_work(stage)
    work = f"{steps:,} steps of {duration_text(each.step)}, {images:,} images scored"
    seconds = steps * each.step + images * each.image
    return StageCost(f"train {name_of(stage)}", work, seconds)


def _evaluation_costs(
    target: str, stages: Iterable[Stage], measured: dict[str, TrainingCost], device: torch.device
) -> list[StageCost]:
    dataset = {"table1": "ucsd", "table2": "mvtec"}[target]
    rows = []
    for stage in stages:
        if isinstance(stage, TrainConfig) and stage.dataset == dataset:
            name = f"evaluate {name_of(stage)}"
            try:
                images = _test_images(stage)
                each = _measure(stage, measured, device)
            except DataError as error:
                rows.append(StageCost(name, f"unknown: {error}", 0.0))
                continue
            seconds = images * MAPS[target] * (each.image + each.map)
            work = f"{images:,} images, {MAPS[target]} maps per image"
            rows.append(StageCost(name, work, seconds))
    return rows


def _test_images(stage: TrainConfig) -> int:
    samples = DATASETS[stage.dataset].test_samples(stage.data, stage.category)
    return len(spread_samples(samples, REDUCED_TEST_IMAGES if stage.limit else None))
