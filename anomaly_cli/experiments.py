"""The paper's experiments on small images: their networks and the numbers of their presets.

The numbers stand in `presets/<data set>.toml` alone. Loads no torch.
"""

import tomllib
from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import Any, Literal

DatasetName = Literal["mvtec", "mnist", "ucsd", "folder"]

# Of the convolutions: 28, 14, 7 pixels for MNIST and 100, 50, 25, 12 for UCSD.
CHANNELS: Mapping[str, tuple[int, ...]] = {"mnist": (64, 128), "ucsd": (64, 128, 256)}


def preset_options(dataset: DatasetName, names: Collection[str]) -> dict[str, Any]:
    """Those options of `names`, such as `batch_size`, that the preset of a data set has.

    Empty if the paper has no such experiment.
    """
    if dataset not in CHANNELS:
        return {}
    text = (files("anomaly_cli") / "presets" / f"{dataset}.toml").read_text(encoding="utf-8")
    options = {name.replace("-", "_"): value for name, value in tomllib.loads(text).items()}
    return {name: value for name, value in options.items() if name in names}
