"""State of an interrupted training: saved, checked and restored."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.datasets import DATASETS, data_fingerprint
from anomaly_cli.errors import CheckpointError, ConfigError
from anomaly_cli.files.atomic import hash_file
from anomaly_cli.files.tensors import read_state, write_state
from anomaly_cli.training.split import NormalSplit

# Fields of `TrainConfig` that decide the weights, beside the network and the images.
_DECISIVE = (
    "weights",
    "augmentation",
    "epochs",
    "batch_size",
    "learning_rate",
    "gradient_clip",
    "held_out",
    "seed",
    "amp",
    "guidance",
    "guidance_ratio",
    "freeze",
    "half_size",
)


def training_settings(config: TrainConfig, split: NormalSplit) -> dict[str, Any]:
    """List the settings that a resumed training must share with its beginning.

    Args:
        config: settled for the number of images, see `training.fit.settle`.
        split: the files of the images.
    """
    settings: dict[str, Any] = {name: getattr(config, name) for name in _DECISIVE}
    settings["model"] = asdict(config.network)
    if config.weights not in {"none", "imagenet"}:
        settings["weights"] = hash_file(Path(config.weights))
    if config.dataset != "mvtec":  # mvtec was the only one at first, and has no key
        settings["dataset"] = config.dataset
    settings["data"] = fingerprint_images(config, split)
    return settings


def fingerprint_images(config: TrainConfig, split: NormalSplit) -> str:
    """Hash the names and contents of the images of a training, in the order of the split."""
    paths = [*split.fit, *split.held_out]
    return data_fingerprint(DATASETS[config.dataset], paths, root=config.data / config.category)


class Resumable(Protocol):
    """A trainer whose state can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """List all that the training needs to go on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`."""


def save_state(
    path: Path, trainer: Resumable, settings: Mapping[str, Any], history: Sequence[Sequence[Any]]
) -> None:
    """Write the state that `--resume` needs; the file is complete or absent.

    Args:
        path: the file.
        trainer: its state is written.
        settings: those that a resumed training must share, plain JSON values.
        history: statistics of the finished epochs.

    Raises:
        OutputError: the file cannot be written.
    """
    state = {
        "trainer": trainer.state_dict(),
        "settings": dict(settings),
        "history": [tuple(row) for row in history],
    }
    write_state(path, state)


def resume_training(path: Path, trainer: Resumable, settings: Mapping[str, Any]) -> list[Any]:
    """Restore a trainer from the state in a file.

    Returns:
        The history that was saved, each row as a tuple.

    Raises:
        CheckpointError: the file is missing, damaged, or belongs to another model.
        ConfigError: the saved training has other settings.
    """
    state = read_state(path)
    if not isinstance(state.get("settings"), dict):
        raise CheckpointError(f"{path} does not belong to this model")
    require_same_settings(path, state["settings"], settings)
    try:
        trainer.load_state_dict(state["trainer"])
        return list(state["history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not belong to this model") from error


def require_same_settings(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to resume from a file with other settings.

    Raises:
        ConfigError: settings differ; the message names them.
    """
    changed = [name for name in new if name not in old or old[name] != new[name]]
    if changed:
        raise ConfigError(
            f"{path} was trained with other settings ({', '.join(changed)}); "
            f"give the same ones, or --overwrite to start anew"
        )
