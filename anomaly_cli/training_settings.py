"""What fixes the weights of a training, to tell whether another one would end in the same."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.datasets import DATASETS, data_fingerprint
from anomaly_cli.data.mvtec import NormalSplit
from anomaly_cli.files.atomic import hash_file


def training_settings(config: TrainConfig, split: NormalSplit) -> dict[str, Any]:
    """Settings that a resumed training must share with its beginning.

    Of a config that is settled.
    """
    kept = {"model", "weights", "augmentation", "epochs", "batch_size", "learning_rate"}
    kept |= {"gradient_clip", "held_out", "seed", "amp", "guidance", "guidance_ratio", "freeze"}
    kept |= {"half_size"}
    settings = {name: value for name, value in asdict(config).items() if name in kept}
    settings["model"] = asdict(config.network)
    if config.weights not in {"none", "imagenet"}:
        settings["weights"] = hash_file(Path(config.weights))
    root = config.data / config.category
    if config.dataset != "mvtec":  # which was the only one at first, and goes without a name
        settings["dataset"] = config.dataset
    paths = [*split.fit, *split.held_out]
    settings["data"] = data_fingerprint(DATASETS[config.dataset], paths, root=root)
    return settings
