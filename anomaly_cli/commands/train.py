"""`train`: train and calibrate a model on the normal images of each category."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.names import CHANNELS, STATE_FILE
from anomaly_cli.config.toml import ResolvedSettings, settings_of
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.config.values import check_config
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.detector.checkpoint import LoadedModel, load_model
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.device import resolve_device
from anomaly_cli.detector.maps import candidate_maps
from anomaly_cli.detector.team import Team
from anomaly_cli.detector.together import decide, is_first, train_together
from anomaly_cli.errors import ConfigError, OutputError
from anomaly_cli.files.atomic import PARTIAL, SETTINGS_FILE, prepare_output_folder
from anomaly_cli.files.lock import lock_folder
from anomaly_cli.files.unread import name_unread
from anomaly_cli.progress import SILENT, Progress
from anomaly_cli.training.augmentation import select_augmentation
from anomaly_cli.training.dataset import list_training_images
from anomaly_cli.training.fit import (
    METRICS_FILE,
    is_finished,
    require_same_training,
    train_category,
)
from anomaly_cli.training.pretrained import load_features

# Fields that no option sets, or that decide how existing files are treated.
_NO_OPTIONS = {
    "limit",
    "resume",
    "overwrite",
    "neck_channels",
    "rebuilds_half",
    "channels",
    "image_channels",
    "hidden",
    "loss",
    "width",
    "feature_weight",
}


class TrainedCategory(NamedTuple):
    """Summary of one trained model."""

    category: str
    model: Path
    is_new: bool  # False: it was finished before and is not changed
    fit: int  # training images
    held_out: int  # held-out images
    epoch: int  # best epoch
    held_out_loss: float | None  # that selected the epoch; None: the last one is kept
    map: str
    threshold: float
    threshold_rule: str
    expected_rates: tuple[float, float] | None  # range of the false-positive rate
    sha256: str


def train(config: TrainConfig, *, progress: Progress = SILENT) -> Detector:
    """Train a model of one category, as `anomaly-cli train` does.

    Files are written to `<config.output>/<config.category>`. A finished training is not
    repeated: its model is loaded.

    Args:
        config: `TrainConfig(data=..., category=...)`. `TrainConfig.resolve(fast=True, ...)` fills
            in settings that depend on others.
        progress: shows steps and epochs; by default nothing is printed.

    Returns:
        The trained model, with its chosen map and threshold.

    Raises:
        ConfigError: a setting is invalid, names no single category, or differs from the finished
            training. It is also a ValueError.
        ConfigTypeError: the argument is not a `TrainConfig`. It is also a TypeError.
        DataError: there are too few images, or one cannot be read.
        OutputError: the folder holds something else, or cannot be written.
        TrainingError: training diverged.
    """
    config = check_config(config, TrainConfig)
    _check_settings(config)
    names = DATASETS[config.dataset].select_categories(config.data, config.category)
    if len(names) != 1:
        raise ConfigError(f"train returns one model: name one category of {', '.join(names)}")
    config = replace(config, category=names[0])
    folder = config.output / config.category
    if is_finished(folder) and not config.overwrite:
        require_same_training(folder, config)
    resolved = settings_of("train", _options(config), source="python")
    (result,) = run(config, resolved, progress)
    return Detector.open(result.model, MapConfig(device=config.device))


def _options(config: TrainConfig) -> dict[str, Any]:
    """List the settings as options of the command line."""
    options = config.options()
    options["target_layer"] = options.pop("layer")
    return {name: value for name, value in options.items() if name not in _NO_OPTIONS}


def run(
    config: TrainConfig, resolved: ResolvedSettings | None = None, progress: Progress = SILENT
) -> list[TrainedCategory]:
    """Train a model for each category found, and skip those that are finished."""
    return _train_share(_find_categories(config), config, resolved, progress)


def run_in_team(
    config: TrainConfig,
    team: Team,
    resolved: ResolvedSettings | None = None,
    progress: Progress = SILENT,
) -> list[TrainedCategory]:
    """Train categories in all processes of a launcher.

    Process K of N trains every N-th category. Of fewer categories than processes, each is trained
    by several, which share its batches. A team that was restarted goes on with what it has done.

    Returns:
        All models in the first process, and its own ones in the others.
    """
    if team.is_restarted:
        config = replace(config, resume=True, overwrite=False)
    categories = _find_categories(config)
    number, own_team = team.split(min(team.size, len(categories)))
    with train_together(own_team):
        share = categories[number :: team.size]
        trained = _train_share(share, config, resolved, progress)
    found = {row.category: row for rows in team.gather(trained) for row in rows}
    return [found[name] for name in categories] if team.rank == 0 else trained


def _find_categories(config: TrainConfig) -> list[str]:
    _check_settings(config)
    return DATASETS[config.dataset].select_categories(config.data, config.category)


def _train_share(
    categories: Sequence[str],
    config: TrainConfig,
    resolved: ResolvedSettings | None,
    progress: Progress,
) -> list[TrainedCategory]:
    device = resolve_device(config.device)
    return [
        _train_alone(replace(config, category=name), device, resolved, progress)
        for name in categories
    ]


def _check_settings(config: TrainConfig) -> None:
    if config.dataset in CHANNELS and config.weights != "none":
        raise ConfigError(
            f"--weights is not supported with --dataset {config.dataset}: "
            f"its network is not a ResNet18"
        )
    if config.model.has_memory or config.model.has_frozen_encoder:
        load_features()  # before minutes of training
    select_augmentation(config.augmentation, config.category)
    candidate_maps(config.network, config.attention, config.layer)


def _train_alone(
    config: TrainConfig,
    device: torch.device,
    resolved: ResolvedSettings | None,
    progress: Progress,
) -> TrainedCategory:
    # The first of several processes locks the folder for all.
    with lock_folder(config.output / config.category) if is_first() else nullcontext():
        return _train_or_skip(config, device, resolved, progress)


def _train_or_skip(
    config: TrainConfig,
    device: torch.device,
    resolved: ResolvedSettings | None,
    progress: Progress,
) -> TrainedCategory:
    folder = config.output / config.category
    plan = decide(lambda: _prepare(config, folder))
    if plan == "keep":
        progress.note(f"{config.category}: already finished; kept (--overwrite trains it again)")
        return _summarise(load_model(folder), is_new=False)
    if is_first():
        name_unread(list_training_images(config), progress)
    own = resolved.of_category(config.category) if resolved else None
    loaded = train_category(
        config, folder, device, own, is_resumed=plan == "resume", progress=progress
    )
    return _summarise(loaded, is_new=True)


def _prepare(config: TrainConfig, folder: Path) -> Literal["keep", "resume", "begin"]:
    """Look what the folder holds, and prepare it for what has to be done.

    Raises:
        OutputError: it holds something else, or a training that is not to be continued.
    """
    is_stopped = (folder / STATE_FILE).exists()
    if is_finished(folder) and not config.overwrite:
        return "keep"
    is_resumed = config.resume and is_stopped
    if is_stopped and not (config.resume or config.overwrite):
        raise OutputError(
            f"{folder} holds an interrupted training; add --resume to continue it, "
            f"or --overwrite to start again"
        )
    is_barely_begun = config.resume and _is_barely_begun(folder)
    prepare_output_folder(folder, overwrite=config.overwrite or is_resumed or is_barely_begun)
    return "resume" if is_resumed else "begin"


def _is_barely_begun(folder: Path) -> bool:
    """Check whether a training was killed before its first state, of which nothing is kept."""
    known = {SETTINGS_FILE, METRICS_FILE}
    names = [path.name for path in folder.glob("*")]
    return all(name in known or name.endswith(PARTIAL) for name in names)


def _summarise(loaded: LoadedModel, *, is_new: bool) -> TrainedCategory:
    record = loaded.record
    _scale, calibration = record.calibrations[record.default_map].select(record.default_scores)
    threshold = calibration.threshold(record.default_threshold, record.data["held_out_parts"])
    return TrainedCategory(
        category=record.category,
        model=loaded.path,
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
