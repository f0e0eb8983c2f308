"""Time a few real steps of each training that is not finished; nothing is written."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import median

import torch

from anomaly_cli.checkpoint import load_training_state
from anomaly_cli.commands.train import make_trainer
from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.names import STATE_FILE
from anomaly_cli.config.reproduce import ReproduceConfig
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.dsprites import IMAGE_COUNT, RenderedSprites
from anomaly_cli.data.mvtec import count_held_out
from anomaly_cli.data.samples import spread_samples
from anomaly_cli.data.training_set import list_training_images, open_training_set
from anomaly_cli.device import resolve_device, seed_everything
from anomaly_cli.disentangling.scoring import BATCH, encode_images, select_images
from anomaly_cli.disentangling.training import Trainer as SpriteTrainer
from anomaly_cli.errors import DataError
from anomaly_cli.reproduction.costs import (
    MOST_SECONDS,
    TIMED,
    WARM_UP,
    StageCost,
    TrainingCost,
    cost_of_epochs,
    duration_text,
)
from anomaly_cli.reproduction.stages import (
    REDUCED_TEST_IMAGES,
    Stage,
    folder_of,
    is_trained,
    name_of,
)
from anomaly_cli.training import EpochStats
from models.conv import conv_vae

MAPS = {"table1": 5, "table2": 1}  # that an evaluation draws of each test image
BACKWARD = 3  # an anomaly map costs a forward pass and the gradient, about twice as much


def estimate(config: ReproduceConfig, stages: Sequence[Stage]) -> list[StageCost]:
    """What each training that is not finished will cost, and the evaluations after them.

    Each kind of training (data set and guidance, or method) is timed once, on this machine and
    device, with its own network, batch and images.
    """
    device = resolve_device(config.device)
    measured: dict[str, TrainingCost] = {}
    rows = [_stage_cost(stage, measured, device) for stage in stages]
    for target in config.targets:
        if target in MAPS:
            rows += _evaluation_costs(target, stages, measured, device)
    return rows


def _stage_cost(stage: Stage, measured: dict[str, TrainingCost], device: torch.device) -> StageCost:
    """Of one training; where its data cannot be read, training it will say so and go on."""
    name = f"train {name_of(stage)}"
    if is_trained(stage):
        return StageCost(name, "finished before", 0.0)
    try:
        each = _measure(stage, measured, device)
        if isinstance(stage, DisentangleConfig):
            return _sprite_cost(stage, each)
        return _training_cost(stage, each)
    except DataError as error:
        return StageCost(name, f"not known: {error}", 0.0)


def _measure(stage: Stage, measured: dict[str, TrainingCost], device: torch.device) -> TrainingCost:
    """The cost of a training of this kind, timed where it is the first one."""
    if isinstance(stage, DisentangleConfig):
        if stage.method not in measured:
            measured[stage.method] = _time_sprites(stage, device)
        return measured[stage.method]
    kind = f"{stage.dataset} {stage.guidance}"
    if kind not in measured:
        measured[kind] = _time_training(stage, device)
    return measured[kind]


def _time_training(stage: TrainConfig, device: torch.device) -> TrainingCost:
    steps = WARM_UP + TIMED
    wanted = math.ceil(steps * stage.batch_size / (1 - stage.held_out)) + 1
    limit = min(wanted, stage.limit or wanted)
    probe = replace(stage, limit=limit, epochs=steps, half_size=0)  # an epoch has a step at least
    start = time.perf_counter()
    images = open_training_set(probe)
    reading = (time.perf_counter() - start) / (len(images.fit) + len(images.held_out))
    trainer = make_trainer(probe, images, device)
    step = _time_steps(trainer.run(), device)
    trainer.vae.eval()
    start = time.perf_counter()
    trainer.objective.held_out_losses()
    held_out = (time.perf_counter() - start) / len(images.held_out)
    return TrainingCost(step, held_out, reading)


def _time_sprites(stage: DisentangleConfig, device: torch.device) -> TrainingCost:
    # Drawn images: those of the official file take as long, but a quarter of a minute to open.
    sprites = RenderedSprites()
    seed_everything(stage.seed)
    objective = stage.objective(stage.method)
    probe = replace(stage, steps=stage.steps + WARM_UP + TIMED)  # so that none is the last
    trainer = SpriteTrainer(conv_vae(stage.model), sprites, objective, probe, device)
    trainer.report_every = probe.steps  # a step alone, without the statistics of a stretch
    step = _time_steps(trainer.run(), device)
    indices = select_images(len(sprites), 2 * BATCH, seed=stage.seed)
    start = time.perf_counter()
    encode_images(trainer.vae, sprites, indices, device, lambda: None)
    return TrainingCost(step, 0.0, (time.perf_counter() - start) / len(indices))


def _time_steps(steps: Iterator[object], device: torch.device) -> float:
    """Median seconds of a few steps; the ends of epochs between them do not count."""
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
        per_look=stage.epochs_per_look,
    )
    work = f"{steps:,} steps of {duration_text(each.step)}"
    return StageCost(f"train {name_of(stage)}", work, seconds)


def _finished_epochs(stage: TrainConfig) -> int:
    path = folder_of(stage) / STATE_FILE
    return int(load_training_state(path)["trainer"]["epoch"]) if path.exists() else 0


def _sprite_cost(stage: DisentangleConfig, each: TrainingCost) -> StageCost:
    path = folder_of(stage) / STATE_FILE
    done = int(load_training_state(path)["trainer"]["step"]) if path.exists() else 0
    scored = stage.score_images or IMAGE_COUNT
    work = f"{stage.steps - done:,} steps of {duration_text(each.step)}, {scored:,} images scored"
    seconds = (stage.steps - done) * each.step + scored * each.image
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
                rows.append(StageCost(name, f"not known: {error}", 0.0))
                continue
            seconds = images * MAPS[target] * (each.image + BACKWARD * each.held_out)
            work = f"{images:,} images, maps of each: {MAPS[target]}"
            rows.append(StageCost(name, work, seconds))
    return rows


def _test_images(stage: TrainConfig) -> int:
    samples = DATASETS[stage.dataset].test_samples(stage.data, stage.category)
    return len(spread_samples(samples, REDUCED_TEST_IMAGES if stage.limit else None))
