"""`export`: write a trained model as one graph, from images to results, and check it."""

from pathlib import Path
from typing import Any, NamedTuple

from anomaly_cli.commands.models import open_model
from anomaly_cli.config.commands import ExportConfig
from anomaly_cli.errors import OutputError
from anomaly_cli.export.check import CheckResult, check_export, draw_images, read_images
from anomaly_cli.export.formats import export_detector
from anomaly_cli.export.graph import refuse_unsupported
from anomaly_cli.files.atomic import write_bytes
from anomaly_cli.files.unread import find_and_tell
from anomaly_cli.progress import SILENT, Progress


class ExportResult(NamedTuple):
    """The result of `export`."""

    path: Path
    category: str
    map: str  # name of the anomaly map
    check: CheckResult


def run(config: ExportConfig, progress: Progress = SILENT) -> ExportResult:
    """Export a model, and write it if it gives the results of the original.

    Raises:
        CheckpointError: the model cannot be read.
        ConfigError: its map cannot be computed in a graph, or a package is missing.
        DataError: an image of the check cannot be read.
        OutputError: a result differs, the file exists, or it cannot be written.
    """
    path = config.place
    if path.exists() and not config.overwrite:
        raise OutputError(f"{path} exists already; choose another --output or add --overwrite")
    detector = open_model(config.model, config.map, progress)
    refuse_unsupported(detector)
    images = draw_images(detector.network.image_size)
    if config.check is not None:
        images = read_images(f.path for f in find_and_tell([str(config.check)], progress))
    progress.note("tracing the model, which takes a minute")
    exported = export_detector(detector, config.format)
    result = check_export(exported.compute, detector, images)
    write_bytes(path, exported.content)
    return ExportResult(path, detector.category, str(detector.spec), result)


def to_json(result: ExportResult) -> dict[str, Any]:
    """Convert the result to plain JSON values."""
    return {
        "output": str(result.path),
        "category": result.category,
        "map": result.map,
        "checked_images": result.check.images,
        "largest_difference": result.check.difference,
        "largest_mask_difference": result.check.masks,
    }
