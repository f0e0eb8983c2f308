"""Open the model that a command was given."""

from dataclasses import replace
from pathlib import Path

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.names import FUSED, MEMORY
from anomaly_cli.detector.checkpoint import NotCalibratedError
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.latents import select_latents
from anomaly_cli.progress import Progress


def open_model(
    path: Path, config: MapConfig, progress: Progress, *, latents: str | None = None
) -> Detector:
    """Load a model, and calibrate it for the map if it has no calibration for it yet.

    Args:
        path: the model file, or its folder.
        config: map, threshold, device.
        progress: shows that a map is calibrated.
        latents: choice of latents that will be shown, refused before anything is calibrated. Where
            the model's own map is a memory, and no other is named, the fused map is taken.

    Raises:
        CheckpointError: the model cannot be read, or the images that it was trained on are gone.
        ConfigError: the model has no such map, or the map has no such latents.
        DeviceError: the device is not available.
    """
    try:
        detector = Detector.open(path, config)
        is_named = config.source is not None or config.attention is not None
        if latents is None or is_named or detector.spec.source != MEMORY:
            return detector
        progress.note(f"{detector.spec} has no latents; the map is fused, which has")
        config = replace(config, source=FUSED)
        return Detector.open(path, config)
    except NotCalibratedError as error:
        loaded, spec = error.loaded, error.spec
    if latents is not None:
        select_latents(latents, loaded.record.model.latents, spec)
    # Loads what training needs, which takes a second.
    from anomaly_cli.training.calibrate import calibrate_model  # noqa: PLC0415

    return calibrate_model(loaded, spec, config, progress=progress)
