"""Learn what a normal product looks like and show where a new image departs from it.

The names below are loaded when they are first used: importing the package loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly_cli.commands.evaluate import evaluate
    from anomaly_cli.commands.train import train
    from anomaly_cli.config.commands import EvaluateConfig, MapConfig
    from anomaly_cli.config.train import TrainConfig
    from anomaly_cli.detector.detector import Detector
    from anomaly_cli.detector.prediction import Prediction

__version__ = "0.1.0"
__all__ = [
    "Detector",
    "EvaluateConfig",
    "MapConfig",
    "Prediction",
    "TrainConfig",
    "evaluate",
    "train",
]

_PLACES = {
    "Detector": "anomaly_cli.detector.detector",
    "EvaluateConfig": "anomaly_cli.config.commands",
    "MapConfig": "anomaly_cli.config.commands",
    "Prediction": "anomaly_cli.detector.prediction",
    "TrainConfig": "anomaly_cli.config.train",
    "evaluate": "anomaly_cli.commands.evaluate",
    "train": "anomaly_cli.commands.train",
}


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` from its module."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """List the names that are loaded later as well."""
    return sorted({*globals(), *__all__})
