"""Open the model that a command was given."""

from pathlib import Path

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.detector.checkpoint import NotCalibratedError
from anomaly_cli.detector.detector import Detector
from anomaly_cli.progress import Progress


def open_model(path: Path, config: MapConfig, progress: Progress) -> Detector:
    """Load a model; see `training.calibrate.open_detector` for a map that nobody asked for yet.

    Raises:
        CheckpointError: the model cannot be read, or the images that it was trained on are gone.
        ConfigError: no such map.
        DeviceError: the device is not there.
    """
    try:
        return Detector.open(path, config)
    except NotCalibratedError:
        # Loads what training needs, which takes a second.
        from anomaly_cli.training.calibrate import open_detector  # noqa: PLC0415

        return open_detector(path, config, progress=progress)
