"""`explain`: draw the latents of a model that deviate in images, and list their numbers."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anomaly_cli.commands.models import open_model
from anomaly_cli.config.commands import ExplainConfig
from anomaly_cli.config.toml import ResolvedSettings, read_settings, write_settings
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.latents import NO_LATENTS, STEPS, LatentSelection
from anomaly_cli.detector.predict import explain_prediction
from anomaly_cli.detector.prediction import Prediction
from anomaly_cli.errors import DataError
from anomaly_cli.files.atomic import write_text
from anomaly_cli.files.images import ImageFile, write_png
from anomaly_cli.files.lock import open_output_folder
from anomaly_cli.files.read import read_image
from anomaly_cli.files.unread import find_and_tell
from anomaly_cli.pictures.latents import (
    FIGURE_TILE,
    ExplainedImage,
    explanation_figure,
)
from anomaly_cli.pictures.patches import ComparedPatch, crop_around
from anomaly_cli.progress import SILENT, Progress

SCHEMA_VERSION = 1
FIGURE_FILE, REPORT_FILE = "explain.png", "explain.json"

Record = dict[str, Any]  # plain JSON values


class ExplainResult(NamedTuple):
    """The result of `explain`."""

    output: Path
    report: Record  # content of explain.json
    failed: int  # images that could not be read


def run(
    config: ExplainConfig, resolved: ResolvedSettings | None = None, progress: Progress = SILENT
) -> ExplainResult:
    """Find the latents that deviate, and draw their attention maps and their traversals.

    An image that cannot be read is reported and skipped.
    """
    files = find_and_tell(config.images, progress, exclude=config.output)
    detector = open_model(config.model, config.map, progress, latents=config.latents)
    selection = _select(config, detector)
    with open_output_folder(config.output, overwrite=config.overwrite):
        records, rows = _predict(files, detector, config, progress)
        summary = _summarise([record["latents"] for record in records if "latents" in record])
        chosen = selection.choose(np.array([row["mean_absolute_deviation"] for row in summary]))
        _write_figure(rows, chosen, detector, config)
        report = _describe(records, summary, chosen, detector)
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(config.output / REPORT_FILE, text + "\n")
        write_settings(config.output, resolved)
    return ExplainResult(config.output, report, sum("error" in record for record in records))


def _select(config: ExplainConfig, detector: Detector) -> LatentSelection:
    """Read the choice of latents; a method without any is explained by what it expects."""
    is_chosen = config.latents != ExplainConfig.latents
    if detector.network.latents or is_chosen:
        return detector.select_latents(config.latents)
    return LatentSelection()


def _predict(
    files: list[ImageFile], detector: Detector, config: ExplainConfig, progress: Progress
) -> tuple[list[Record], list[ExplainedImage]]:
    """Compute the numbers of every image, and explain the first `config.rows` for the figure."""
    has_latents = bool(detector.network.latents)
    results = detector.predict_all([file.path for file in files], with_latents=has_latents)
    records: list[Record] = []
    rows: list[ExplainedImage] = []
    with progress.bar("explaining", total=len(files)) as bar:
        for file, result in zip(files, results, strict=True):
            name = file.relative.as_posix()
            if isinstance(result, DataError):
                progress.warn(f"skipped: {result}")
            elif len(rows) < config.rows:
                compared = _compare(result, detector)
                expected = None if has_latents else detector.expected(result.image)
                rows.append(explain_prediction(result, name, FIGURE_TILE, compared, expected))
            records.append({"image": name} | _measure(result))
            bar.advance()
    if not rows:
        raise DataError(f"none of the {len(files)} images could be read")
    readable = sum("error" not in record for record in records)
    if len(rows) < readable:
        progress.note(
            f"the figure has the first {len(rows)} of {readable} images (--rows); "
            f"{REPORT_FILE} has the numbers of all"
        )
    return records, rows


def _compare(prediction: Prediction, detector: Detector) -> ComparedPatch | None:
    """Cut out the most unusual place and the nearest normal patch, if its image is at hand."""
    nearest, side = prediction.nearest, FIGURE_TILE[0]
    if nearest is None:
        return None
    data = read_settings(detector.path.parent, "train").get("data", "")
    try:  # an absolute name replaces what stands before it
        image = read_image(Path(str(data)) / detector.category / nearest.image)
    except DataError:
        normal = None
    else:
        normal = crop_around(image, nearest.box, side)
    own = crop_around(prediction.image, nearest.place, side)
    return ComparedPatch(own, normal, nearest.image, nearest.distance)


def _measure(result: Prediction | DataError) -> Record:
    """List the numbers of one image and of all its latents; its maps are not kept."""
    if isinstance(result, DataError):
        return {"error": str(result)}
    latents = result.latents or NO_LATENTS
    return {
        "score": result.score,
        "is_anomalous": result.is_anomalous,
        **({} if result.nearest is None else {"nearest": result.nearest.record()}),
        "latents": [latents.record(i) for i in range(len(latents.means))],
    }


def _summarise(images: list[list[Record]]) -> list[Record]:
    """Average the deviation and the attention share of each latent over images."""
    summary = []
    for latent, records in enumerate(zip(*images, strict=True)):
        shares = [record["share"] for record in records if record["share"] is not None]
        deviations = [abs(record["deviation"]) for record in records]
        summary.append(
            {
                "latent": latent,
                "mean_absolute_deviation": float(np.mean(deviations)),
                "mean_share": float(np.mean(shares)) if shares else None,
            }
        )
    return summary


def _write_figure(
    rows: list[ExplainedImage], chosen: list[int], detector: Detector, config: ExplainConfig
) -> None:
    threshold, network = detector.threshold, detector.network
    shown = f"attention of {len(chosen)} of {network.latents} latents"
    what = shown if network.latents else f"what a model of {network.method} expects"
    picture = explanation_figure(
        rows,
        chosen,
        detector.traverse(chosen) if chosen else np.empty(0, np.uint8),
        detector.scale,
        STEPS,
        title=f"{detector.category}: {what}",
        subtitle=f"map {detector.map_name}; threshold {threshold.value:.3g} ({threshold.rule}); "
        f"model {detector.sha256[:12]}",
    )
    write_png(config.output / FIGURE_FILE, picture)


def _describe(
    records: list[Record], summary: list[Record], chosen: list[int], detector: Detector
) -> Record:
    for record in records:
        if "latents" in record:
            record["latents"] = [record["latents"][latent] for latent in chosen]
    return {
        "schema_version": SCHEMA_VERSION,
        "category": detector.category,
        "map": str(detector.spec),
        **detector.threshold.record(),
        "colour_range": list(detector.colour_range),
        "latent_colour_range": list(detector.latent_colour_range),
        "model_sha256": detector.sha256,
        "latent_kinds": list(detector.latent_kinds),
        "traversal_steps": list(STEPS),
        "latents": [summary[latent] for latent in chosen],
        "images": records,
    }
