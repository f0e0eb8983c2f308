"""`explain`: a model and images -> a figure of what its latents see, and the numbers behind it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anomaly_cli import console
from anomaly_cli.config.commands import ExplainConfig
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.errors import DataError
from anomaly_cli.explanation import (
    FIGURE_TILE,
    ExplainedImage,
    explanation_figure,
    scale_of,
    shrink,
)
from anomaly_cli.files.atomic import prepare_output_folder, write_text
from anomaly_cli.files.images import ImageFile, find_images, write_png
from anomaly_cli.latents import STEPS, select_latents, traverse
from anomaly_cli.localization import LocalizedImage, Localizer, localize_files, open_localizer

SCHEMA_VERSION = 1
FIGURE_FILE, REPORT_FILE = "explain.png", "explain.json"

Record = dict[str, Any]  # plain JSON values


class ExplainResult(NamedTuple):
    """What `explain` found and wrote."""

    output: Path
    report: Record  # what stands in explain.json
    failed: int  # images that could not be read


def run(config: ExplainConfig, resolved: ResolvedSettings | None = None) -> ExplainResult:
    """Find the latents that deviate, and draw where they look and what they stand for.

    An image that cannot be read is reported and skipped.
    """
    files = find_images(config.images, exclude=config.output)
    localizer = open_localizer(config.model, config.map)
    latent_dim = localizer.loaded.record.model.latent_dim
    selection = select_latents(config.latents, latent_dim, localizer.spec)
    prepare_output_folder(config.output, overwrite=config.overwrite)
    records, rows = _localize(files, localizer, config)
    summary = _summarise([record["latents"] for record in records if "latents" in record])
    chosen = selection.choose(np.array([row["mean_absolute_deviation"] for row in summary]))
    _write_figure(rows, chosen, localizer, config)
    report = _describe(records, summary, chosen, localizer)
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(config.output / REPORT_FILE, text + "\n")
    write_settings(config.output, resolved)
    return ExplainResult(config.output, report, sum("error" in record for record in records))


def _localize(
    files: list[ImageFile], localizer: Localizer, config: ExplainConfig
) -> tuple[list[Record], list[ExplainedImage]]:
    """The numbers of every image, and the first ones to draw."""
    results = localize_files(
        [file.path for file in files],
        localizer.maker,
        localizer.spec,
        batch_size=config.map.batch_size,
        workers=config.map.workers,
        with_latents=True,
    )
    records: list[Record] = []
    rows: list[ExplainedImage] = []
    with console.counting_progress("explaining", len(files)) as advance:
        for file, result in zip(files, results, strict=True):
            name = file.relative.as_posix()
            records.append({"image": name} | _measure(result, localizer))
            if isinstance(result, LocalizedImage) and len(rows) < config.rows:
                rows.append(shrink(name, result, FIGURE_TILE))
            advance()
    if not rows:
        raise DataError(f"none of the {len(files)} images could be read")
    readable = sum("error" not in record for record in records)
    if len(rows) < readable:
        console.note(
            f"drawing the first {len(rows)} of {readable} images (--rows); "
            f"{REPORT_FILE} has the numbers of all"
        )
    return records, rows


def _measure(result: LocalizedImage | DataError, localizer: Localizer) -> Record:
    """The numbers of one image, of all its latents; its maps are not kept."""
    if isinstance(result, DataError):
        console.warn(f"skipped: {result}")
        return {"error": str(result)}
    assert result.latents is not None  # noqa: S101 - it was localized with them
    return {
        "score": result.score,
        "is_anomalous": result.score > localizer.threshold.value,
        "latents": [result.latents.record(i) for i in range(len(result.latents.means))],
    }


def _summarise(images: list[list[Record]]) -> list[Record]:
    """Means over images for each latent."""
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
    rows: list[ExplainedImage], chosen: list[int], localizer: Localizer, config: ExplainConfig
) -> None:
    record, threshold = localizer.loaded.record, localizer.threshold
    maker = localizer.maker
    picture = explanation_figure(
        rows,
        chosen,
        traverse(maker.vae, maker.statistics.latent, chosen),
        scale_of(localizer),
        title=f"{record.category}: what {len(chosen)} of {record.model.latent_dim} latents see",
        subtitle=f"map {localizer.map_name}; threshold {threshold.value:.3g} ({threshold.rule}); "
        f"model {localizer.loaded.sha256[:12]}",
    )
    write_png(config.output / FIGURE_FILE, picture)


def _describe(
    records: list[Record], summary: list[Record], chosen: list[int], localizer: Localizer
) -> Record:
    for record in records:
        if "latents" in record:
            record["latents"] = [record["latents"][latent] for latent in chosen]
    return {
        "schema_version": SCHEMA_VERSION,
        "category": localizer.loaded.record.category,
        "map": str(localizer.spec),
        **localizer.threshold.record(),
        "colour_range": list(localizer.colour_range),
        "latent_colour_range": list(localizer.latent_colour_range),
        "model_sha256": localizer.loaded.sha256,
        "latent_kinds": list(localizer.loaded.record.latent_kinds),
        "traversal_steps": list(STEPS),
        "latents": [summary[latent] for latent in chosen],
        "images": records,
    }
