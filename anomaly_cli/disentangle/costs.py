"""Estimate the time of trainings on this machine: number of steps times measured time."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

import torch

from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.names import STATE_FILE
from anomaly_cli.config.objectives import Entry, Method
from anomaly_cli.detector.device import seed_everything
from anomaly_cli.disentangle.dsprites import IMAGE_COUNT, RenderedSprites
from anomaly_cli.disentangle.runs import is_finished
from anomaly_cli.disentangle.scoring import BATCH, encode_images, select_images
from anomaly_cli.disentangle.training import Trainer
from anomaly_cli.errors import CheckpointError
from anomaly_cli.files.numbers import duration_text
from anomaly_cli.files.tensors import read_state
from anomaly_cli.progress import Progress
from anomaly_cli.training.loop import EpochStats
from models.conv import conv_vae

WARM_UP, TIMED = 1, 4  # steps
MOST_SECONDS = 30.0  # limit for timing one kind of training
LEFT_OUT = "scoring, pictures and reports"  # of an estimate


class TrainingCost(NamedTuple):
    """Measured times of one kind of training, in seconds."""

    step: float  # one training step
    held_out: float  # evaluation of one held-out image; there is none of dSprites
    image: float  # reading one image; of dSprites, encoding it
    map: float = 0.0  # one anomaly map; there is none of dSprites


class EntryCost(NamedTuple):
    """The cost of all unfinished trainings of one entry."""

    entry: Entry
    trainings: int
    steps: int  # left, in all of them
    step: float  # seconds, measured
    seconds: float  # steps, and encoding the images to score

    @property
    def work(self) -> str:
        """The work in words."""
        if not self.trainings:
            return "already finished"
        return f"{_count(self.trainings)}, {self.steps:,} steps of {duration_text(self.step)}"


class ComparisonCost(NamedTuple):
    """The costs of all entries of a comparison."""

    rows: Sequence[EntryCost]

    @property
    def seconds(self) -> float:
        """Total time in seconds."""
        return sum(row.seconds for row in self.rows)

    @property
    def total(self) -> str:
        """The sum in words."""
        trainings, steps = (sum(getattr(r, n) for r in self.rows) for n in ("trainings", "steps"))
        return (
            f"{_count(trainings)}, {steps:,} steps, about {duration_text(self.seconds)} on this "
            f"machine (without {LEFT_OUT})"
        )

    def to_json(self) -> dict[str, Any]:
        """Convert the costs to plain JSON values."""
        names = ("trainings", "steps", "step", "seconds")
        rows = [
            {"entry": row.entry.label, **{name: getattr(row, name) for name in names}}
            for row in self.rows
        ]
        return {"entries": rows, "seconds": self.seconds}


def _count(trainings: int) -> str:
    return "1 training" if trainings == 1 else f"{trainings} trainings"


def estimate(trainings: Sequence[DisentangleConfig], device: torch.device) -> ComparisonCost:
    """Estimate the cost of trainings, by entry; what is finished costs nothing.

    Each method is timed once, on this machine and device, with its own network and batch size.

    Raises:
        CheckpointError: the state of an interrupted training is damaged.
    """
    measured: dict[Method, TrainingCost] = {}
    of_entries: dict[Entry, list[DisentangleConfig]] = {}
    for training in trainings:
        of_entries.setdefault(training.entries[0], []).append(training)
    rows = []
    for entry, own in of_entries.items():
        work = [left for left in map(remaining_work, own) if any(left)]
        steps, images = (sum(left[i] for left in work) for i in (0, 1))
        if work and entry.method not in measured:
            measured[entry.method] = time_sprites(own[0], device)
        each = measured.get(entry.method, TrainingCost(0.0, 0.0, 0.0))
        seconds = steps * each.step + images * each.image
        rows.append(EntryCost(entry, len(work), steps, each.step, seconds))
    return ComparisonCost(rows)


def report_costs(cost: ComparisonCost, progress: Progress) -> None:
    """Report the costs, line by line."""
    for row in cost.rows:
        progress.note(f"  {row.entry.label}: {row.work}, about {duration_text(row.seconds)}")
    progress.note(f"estimated cost: {cost.total}")


def remaining_work(training: DisentangleConfig) -> tuple[int, int]:
    """Count the steps that are left of a training, and the images to encode after them.

    Raises:
        CheckpointError: the state of an interrupted training is damaged.
    """
    images = training.score_images or IMAGE_COUNT
    if training.overwrite and not training.resume:
        return training.steps, images
    if is_finished(training.output):
        return 0, 0
    state = training.output / STATE_FILE
    if not state.exists():
        return training.steps, images
    try:
        return training.steps - int(read_state(state)["trainer"]["step"]), images
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{state} does not belong to this model") from error


def time_sprites(training: DisentangleConfig, device: torch.device) -> TrainingCost:
    """Time a few steps of a training on dSprites, and the encoding of images."""
    # Rendered images: those of the official file take as long, but 15 seconds to open.
    sprites = RenderedSprites()
    seed_everything(training.seed)
    objective = training.objective(training.method)
    # More steps than the training has, so that no timed step is the last.
    probe = replace(training, steps=training.steps + WARM_UP + TIMED)
    trainer = Trainer(conv_vae(training.model), sprites, objective, probe, device)
    trainer.report_every = probe.steps  # time the steps without statistics
    step = time_steps(trainer.run(), device)
    indices = select_images(len(sprites), 2 * BATCH, seed=training.seed)
    start = time.perf_counter()
    encode_images(trainer.vae, sprites, indices, device, lambda: None)
    return TrainingCost(step, 0.0, (time.perf_counter() - start) / len(indices))


def time_steps(steps: Iterator[object], device: torch.device) -> float:
    """Measure the median seconds of a few steps, without the ends of epochs between them."""
    seconds: list[float] = []
    start = before = time.perf_counter()
    for item in steps:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        if not isinstance(item, EpochStats):
            seconds.append(now - before)
        if len(seconds) == WARM_UP + TIMED or now - start > MOST_SECONDS:
            break
        before = now
    return median(seconds[WARM_UP:] or seconds)
