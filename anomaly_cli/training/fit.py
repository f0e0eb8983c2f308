"""Train the model of one category and write its file."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from anomaly_cli.config.names import MODEL_FILE, STATE_FILE
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.config.train import HALF_SAVES, TrainConfig
from anomaly_cli.detector.calibration import MIN_IMAGES_PER_POSITION
from anomaly_cli.detector.checkpoint import LoadedModel, ModelRecord, load_model, save_model
from anomaly_cli.detector.device import is_fast_in_bfloat16, resolve_device, seed_everything
from anomaly_cli.detector.together import current_team, decide, is_first
from anomaly_cli.errors import ConfigError, TrainingError
from anomaly_cli.files.atomic import hash_file, write_text
from anomaly_cli.files.numbers import loss_text
from anomaly_cli.files.versions import library_versions
from anomaly_cli.progress import SILENT, Progress
from anomaly_cli.training.calibrate import describe_model
from anomaly_cli.training.dataset import TrainingSet, open_training_set, split_training_images
from anomaly_cli.training.loop import EpochStats, StepStats, Training, to_csv
from anomaly_cli.training.methods import METHODS
from anomaly_cli.training.resume import resume_training, save_state, training_settings
from anomaly_cli.training.selection import describe_appearance
from anomaly_cli.training.split import FEW

METRICS_FILE = "metrics.csv"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where workers put their batches
PREFETCHED = 2  # batches of each worker of a DataLoader


def train_category(
    config: TrainConfig,
    folder: Path,
    device: torch.device,
    resolved: ResolvedSettings | None = None,
    *,
    is_resumed: bool = False,
    progress: Progress = SILENT,
) -> LoadedModel:
    """Train one category, calibrate the best weights, and write the model file.

    After an interruption, or where training diverged, the best weights so far are calibrated and
    written before the error is raised again. Of processes that train together, the first writes
    the files; an interruption leaves them its last state.

    Args:
        config: settings, with one category.
        folder: existing folder that the files are written to.
        device: where to compute.
        resolved: settings with their sources, to be written beside the model.
        is_resumed: whether to go on from the state of an interrupted training in the folder.
        progress: shows steps, epochs and choices.

    Raises:
        ConfigError: settings do not fit the images, or the training that is resumed.
        DataError: there are too few images, or one cannot be read.
        TrainingError: training diverged.
        OutputError: a file cannot be written.
    """
    images = open_training_set(config)
    config = settle(config, len(images.fit), device)
    if config.scores == "position" and len(images.held_out) < MIN_IMAGES_PER_POSITION:
        raise ConfigError(
            f"--scores position needs {MIN_IMAGES_PER_POSITION} held-out normal images, got "
            f"{len(images.held_out)}; raise --held-out, or use --scores global"
        )
    trainer = make_trainer(config, images, device)
    if trainer.workers and not _has_shared_memory(config, trainer.workers):
        progress.warn(
            f"{SHARED_MEMORY} is too small for --workers {trainer.workers}, so images are read "
            f"without them; Docker enlarges it with --shm-size"
        )
        trainer.workers = 0
    settings = training_settings(config, images.split)
    history = _begin(trainer, folder, settings, is_resumed=is_resumed)
    if is_first():
        write_settings(folder, resolved)
    interrupted = _train(trainer, history, folder, settings, progress)
    loaded = None
    if trainer.best_weights:
        record = _describe(trainer, images, settings, history, progress)
        loaded = _save(trainer, record, folder / MODEL_FILE)
    if interrupted is not None:
        raise interrupted
    if is_first():
        (folder / STATE_FILE).unlink(missing_ok=True)
    assert loaded is not None  # noqa: S101 - the last epoch is always evaluated, and kept
    return loaded


def _save(trainer: Training, record: ModelRecord, path: Path) -> LoadedModel:
    def save() -> str:
        save_model(path, trainer.best_weights, record)
        return hash_file(path)

    return LoadedModel(
        path=path, sha256=decide(save), network=trainer.network.cpu().eval(), record=record
    )


def _has_shared_memory(config: TrainConfig, workers: int) -> bool:
    """Check whether /dev/shm holds the batches that workers hand over, twice what is prefetched."""
    if not SHARED_MEMORY.is_dir():
        return True
    pixels = config.batch_size * config.model.image_size**2
    batch = pixels * 4 * (3 + 3 + 1)  # an image, its copy with defects and the mask, float32
    return shutil.disk_usage(SHARED_MEMORY).free > 2 * PREFETCHED * workers * batch


def is_finished(folder: Path) -> bool:
    """Check whether the training in a folder was finished."""
    return (folder / MODEL_FILE).is_file() and not (folder / STATE_FILE).exists()


def require_same_training(folder: Path, config: TrainConfig) -> None:
    """Refuse a finished model that was trained with other settings or images.

    Raises:
        CheckpointError: the model cannot be read.
        ConfigError: settings or images differ; the message names them.
        DataError: the images cannot be read.
    """
    record = load_model(folder).record
    split = split_training_images(config)
    wanted = training_settings(settle(config, len(split.fit), resolve_device(config.device)), split)
    found = {**record.training, "data": record.data["fingerprint"]}
    changed = [n for n, value in wanted.items() if n != "model" and found.get(n) != value]
    changed += ["model"] if record.model != config.network else []
    if changed:
        raise ConfigError(
            f"{folder} was trained with other settings ({', '.join(changed)}); use "
            f"the same settings, or another --output"
        )


def settle(config: TrainConfig, images: int, device: torch.device) -> TrainConfig:
    """Settle the number of epochs by the number of training images, and bfloat16 by the device.

    If the settings do not choose it, bfloat16 is used where it is faster, but not in the paper's
    training.
    """
    amp = config.amp
    if amp is None:
        amp = config.guidance == "synthetic" and is_fast_in_bfloat16(device)
    return replace(config, epochs=config.epochs_for(images), amp=amp)


def make_trainer(config: TrainConfig, images: TrainingSet, device: torch.device) -> Training:
    """Make a trainer before its first epoch; `config.seed` fixes every random draw."""
    seed_everything(config.seed)
    return METHODS[config.model.method].start(config, images, device)


def _begin(
    trainer: Training, folder: Path, settings: dict[str, Any], *, is_resumed: bool
) -> list[EpochStats]:
    """Restore the trainer of an interrupted training, and return the statistics of its epochs."""
    if is_resumed:
        rows = resume_training(folder / STATE_FILE, trainer, settings)
        return [EpochStats(*row) for row in rows]
    if is_first() and ((folder / MODEL_FILE).exists() or (folder / STATE_FILE).exists()):
        # An old training must not pass for this one if it is killed before its first epoch ends.
        save_state(folder / STATE_FILE, trainer, settings, [])
    return []


def _train(
    trainer: Training,
    history: list[EpochStats],
    folder: Path,
    settings: dict[str, Any],
    progress: Progress,
) -> BaseException | None:
    """Train to the last epoch, or return the error that the best weights so far survive."""
    try:
        _train_epochs(trainer, history, folder, settings, progress)
    except TrainingError as error:
        return error
    except KeyboardInterrupt as error:
        if current_team() is not None:  # the others may be anywhere in their work
            raise
        return error
    return None


def _train_epochs(
    trainer: Training,
    history: list[EpochStats],
    folder: Path,
    settings: dict[str, Any],
    progress: Progress,
) -> None:
    config = trainer.config
    half = config.half_epochs
    # Counted in steps at the full image size; a step at half the side costs a quarter.
    total = trainer.steps * (config.epochs - HALF_SAVES * half)
    done = trainer.steps * (trainer.epoch - HALF_SAVES * min(trainer.epoch, half))
    with progress.bar(config.category, total=total, done=done, unit="share") as bar:
        for stats in trainer.run():
            if isinstance(stats, StepStats):
                bar.advance(
                    (stats.image_size / config.model.image_size) ** 2,
                    title=f"{config.category} epoch {stats.epoch}/{config.epochs}",
                    # Short, so that the line fits 80 columns.
                    status=_describe_losses(trainer.names[:2], stats.losses),
                )
            else:
                bar.advance(0, title=config.category)
                progress.note(_describe_epoch(stats, trainer, bar.seconds_left))
                history.append(stats)
                if not is_first():
                    continue
                write_text(folder / METRICS_FILE, to_csv(history, trainer.names))
                save_state(folder / STATE_FILE, trainer, settings, history)


def _describe_losses(names: Sequence[str], losses: Sequence[float]) -> str:
    """List losses by their names; those that the training does not have are 0."""
    pairs = zip(names, losses, strict=False)
    return ", ".join(f"{name} {loss_text(loss)}" for name, loss in pairs if loss)


def _describe_epoch(stats: EpochStats, trainer: Training, seconds_left: float | None) -> str:
    config = trainer.config
    held_out = ""
    if stats.held_out_loss is not None:
        held_out = f"held out {loss_text(stats.held_out_loss)}{'*' if stats.is_best else ''}, "
    left = "" if seconds_left is None else f", ETA {seconds_left / 60:.1f} min"
    return (
        f"{config.category} epoch {stats.epoch}/{config.epochs}: "
        f"{_describe_losses(trainer.names, stats.losses)}, "
        f"{held_out}{stats.images_per_second:.1f} images/s{left}"
    )


def _describe_calibration(images: TrainingSet, count: int) -> str:
    if not images.split.is_few:
        return f"calibrating on {count} held-out normal images"
    return (
        f"{count} normal images are few: the map is the memory alone, and each image is compared "
        f"with the {count - 1} others to calibrate it. From {FEW} images, attention and appearance "
        f"become parts of the map, and the threshold holds better"
    )


def _describe(
    trainer: Training,
    images: TrainingSet,
    settings: dict[str, Any],
    history: list[EpochStats],
    progress: Progress,
) -> ModelRecord:
    """Compute statistics, choices and calibrations of the best weights."""
    config, count = trainer.config, len(images.held_out)
    progress.note(f"{config.category}: {_describe_calibration(images, count)}")
    # Machines of two kinds may differ in rounding, and so in the epoch that is best.
    trainer.best_weights = decide(lambda: trainer.best_weights)
    history = decide(lambda: history)
    trainer.network.load_state_dict(trainer.best_weights)
    best = next(stats for stats in reversed(history) if stats.is_best)
    training = {name: value for name, value in settings.items() if name not in {"model", "data"}}
    training |= {
        "best_epoch": best.epoch,
        "finished_epochs": trainer.epoch,
        "held_out_loss": best.held_out_loss,
        "versions": library_versions(["torchvision"]) | {"torch": torch.__version__},
    }
    data = {"fingerprint": settings["data"], "fit": len(images.fit), "held_out": count}
    data["held_out_parts"] = images.split.held_out_parts
    data["images"] = len({*images.split.fit, *images.split.held_out})
    record = describe_model(
        trainer.network, images, config, trainer.device, training=training, data=data
    )
    if scores := record.training.get("appearance_selection"):
        way = describe_appearance(record.training["appearance"], scores)
        progress.note(f"{config.category}: appearance is compared with {way}")
    return record
