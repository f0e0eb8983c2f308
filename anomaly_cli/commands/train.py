"""`train`: normal images of each category -> a model file that is calibrated and ready to use."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anomaly_cli import console
from anomaly_cli.appearance_choice import in_words
from anomaly_cli.calibration import MIN_IMAGES_PER_POSITION, parse_threshold
from anomaly_cli.checkpoint import (
    ModelRecord,
    load_model,
    load_training_state,
    save_model,
    save_training_state,
)
from anomaly_cli.config.names import MODEL_FILE, STATE_FILE
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.augmentation import select_augmentation
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.training_set import TrainingSet, open_training_set
from anomaly_cli.device import is_fast_in_bfloat16, resolve_device, seed_everything
from anomaly_cli.errors import CheckpointError, ConfigError, OutputError, TrainingError
from anomaly_cli.files.atomic import prepare_output_folder, write_text
from anomaly_cli.files.versions import library_versions
from anomaly_cli.maps import candidate_maps
from anomaly_cli.pretrained import load_encoder_weights
from anomaly_cli.progressive import make_objective
from anomaly_cli.recording import record_model
from anomaly_cli.training import EpochStats, Trainer, to_csv
from anomaly_cli.training_settings import training_settings
from models.config import VAEConfig
from models.networks import one_class_vae
from models.resnet import ResNet18Encoder

METRICS_FILE = "metrics.csv"


class TrainedCategory(NamedTuple):
    """One trained model, as shown at the end."""

    category: str
    model: Path
    is_new: bool  # False: it was finished before, and was left as it is
    fit: int  # images
    held_out: int
    epoch: int  # the best one
    held_out_loss: float  # nats per image
    map: str
    threshold: float
    threshold_rule: str
    expected_rates: tuple[float, float] | None  # of new normal images that it calls
    sha256: str


def run(config: TrainConfig, resolved: ResolvedSettings | None = None) -> list[TrainedCategory]:
    """Train a model for each category found, leaving out those that are finished."""
    _check_settings(config)
    device = resolve_device(config.device)
    categories = DATASETS[config.dataset].select_categories(config.data, config.category)
    return [_train_or_skip(replace(config, category=name), device, resolved) for name in categories]


def _check_settings(config: TrainConfig) -> None:
    if not isinstance(config.model, VAEConfig) and config.weights != "none":
        raise ConfigError(f"--weights has no place with --dataset {config.dataset}: no ResNet18")
    select_augmentation(config.augmentation, config.category)
    candidate_maps(config.network, config.attention, config.layer)
    if isinstance(parse_threshold(config.threshold), float):
        raise ConfigError("train takes a threshold rule, not a number: max, image-fpr=0.05, ...")


def _train_or_skip(
    config: TrainConfig, device: torch.device, resolved: ResolvedSettings | None
) -> TrainedCategory:
    folder = config.output / config.category
    model = folder / MODEL_FILE
    if model.is_file() and not config.overwrite and not (folder / STATE_FILE).exists():
        console.note(f"{config.category}: finished before, left as it is (--overwrite trains anew)")
        return _summarise(model, is_new=False)
    is_stopped = (folder / STATE_FILE).exists()
    is_resumed = config.resume and is_stopped
    if is_stopped and not (config.resume or config.overwrite):
        raise OutputError(
            f"{folder} holds a training that was stopped; add --resume to go on with it, "
            f"or --overwrite to start anew"
        )
    prepare_output_folder(folder, overwrite=config.overwrite or is_resumed)
    own = resolved.of_category(config.category) if resolved else None
    _train_category(config, folder, device, own, is_resumed=is_resumed)
    return _summarise(model, is_new=True)


def _train_category(
    config: TrainConfig,
    folder: Path,
    device: torch.device,
    resolved: ResolvedSettings | None,
    *,
    is_resumed: bool,
) -> None:
    images = open_training_set(config)
    config = settle(config, len(images.fit), device)
    if config.scores == "position" and len(images.held_out) < MIN_IMAGES_PER_POSITION:
        raise ConfigError(
            f"--scores position needs {MIN_IMAGES_PER_POSITION} held-out normal images, not "
            f"{len(images.held_out)}; raise --held-out, or use global"
        )
    trainer = make_trainer(config, images, device)
    settings = training_settings(config, images.split)
    history: list[EpochStats] = []
    if is_resumed:
        history = _resume(trainer, folder / STATE_FILE, settings)
    write_settings(folder, resolved)
    interrupted: BaseException | None = None
    try:
        _train_epochs(trainer, history, folder, settings, config)
    except (TrainingError, KeyboardInterrupt) as error:
        interrupted = error
    if trainer.best_weights:
        record = _record(trainer, config, images, settings, history)
        save_model(folder / MODEL_FILE, trainer.best_weights, record)
    if interrupted is not None:
        raise interrupted
    (folder / STATE_FILE).unlink(missing_ok=True)


def settle(config: TrainConfig, images: int, device: torch.device) -> TrainConfig:
    """Decide what hangs on the number of images that are fitted, and on the device.

    bfloat16 is taken where it is faster, but not in the paper's training.
    """
    amp = config.amp
    if amp is None:
        amp = config.guidance == "synthetic" and is_fast_in_bfloat16(device)
    return replace(config, epochs=config.epochs_for(images), amp=amp)


def make_trainer(config: TrainConfig, images: TrainingSet, device: torch.device) -> Trainer:
    """A trainer from the start, everything drawn by `config.seed`."""
    seed_everything(config.seed)
    vae = one_class_vae(config.network)
    if isinstance(vae.encoder, ResNet18Encoder):
        load_encoder_weights(vae.encoder, config.weights)
        vae.encoder.freeze(config.freeze)
    vae = vae.to(device)
    objective = make_objective(vae, images, config, device)
    steps = max(1, len(images.fit) // config.batch_size)
    return Trainer(vae, objective, config, device, steps=steps)


def _resume(trainer: Trainer, path: Path, settings: dict[str, Any]) -> list[EpochStats]:
    state = load_training_state(path)
    try:
        changed = [name for name in settings if state["settings"][name] != settings[name]]
        if changed:
            raise ConfigError(
                f"{path} was trained with other settings ({', '.join(changed)}); "
                f"give the same ones, or --overwrite to start anew"
            )
        trainer.load_state_dict(state["trainer"])
        return [EpochStats(*row) for row in state["history"]]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not belong to this model") from error


def _train_epochs(
    trainer: Trainer,
    history: list[EpochStats],
    folder: Path,
    settings: dict[str, Any],
    config: TrainConfig,
) -> None:
    progress = console.training_progress(config, steps=trainer.steps, done=trainer.epoch)
    with progress:
        for stats in trainer.run():
            progress.update(stats)
            if isinstance(stats, EpochStats):
                history.append(stats)
                write_text(folder / METRICS_FILE, to_csv(history))
                state: dict[str, Any] = {"trainer": trainer.state_dict(), "settings": settings}
                state["history"] = [tuple(row) for row in history]
                save_training_state(folder / STATE_FILE, state)


def _record(
    trainer: Trainer,
    config: TrainConfig,
    images: TrainingSet,
    settings: dict[str, Any],
    history: list[EpochStats],
) -> ModelRecord:
    """Statistics, choices and calibrations of the best weights."""
    count = len(images.held_out)
    console.note(f"{config.category}: calibrating on {count} held-out normal images")
    trainer.vae.load_state_dict(trainer.best_weights)
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
    record = record_model(trainer.vae, images, config, trainer.device, training=training, data=data)
    if reached := record.training["appearance_selection"]:
        way = in_words(record.training["appearance"], reached)
        console.note(f"{config.category}: appearance is compared with {way}")
    return record


def _summarise(path: Path, *, is_new: bool) -> TrainedCategory:
    loaded = load_model(path)
    record = loaded.record
    rule = parse_threshold(record.default_threshold)
    _scale, calibration = record.calibrations[record.default_map].select(record.default_scores)
    threshold = calibration.threshold(rule, record.data["held_out_parts"])
    return TrainedCategory(
        category=record.category,
        model=path,
        is_new=is_new,
        fit=record.data["fit"],
        held_out=record.data["held_out"],
        epoch=record.training["best_epoch"],
        held_out_loss=record.training["held_out_loss"],
        map=record.default_map,
        threshold=threshold.value,
        threshold_rule=threshold.rule,
        expected_rates=threshold.rates,
        sha256=loaded.sha256,
    )
