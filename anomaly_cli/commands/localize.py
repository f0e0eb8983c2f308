"""`localize`: a model and images -> anomaly maps, heatmaps, overlays, masks and a manifest."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from anomaly_cli import console
from anomaly_cli.config import MANIFEST_FILE, LocalizeConfig
from anomaly_cli.errors import DataError
from anomaly_cli.files import prepare_output_folder, write_text
from anomaly_cli.images import find_images, output_stems, resize_map, write_png, write_tiff
from anomaly_cli.localization import (
    LocalizedImage,
    Localizer,
    localize_files,
    open_localizer,
    ordered_map,
)
from anomaly_cli.rendering import PALETTE, heat_levels, overlay

SCHEMA_VERSION = 1

Record = dict[str, Any]  # one line of the manifest


class LocalizationResult(NamedTuple):
    """What `localize` found and wrote."""

    output: Path
    records: list[Record]  # in the order of the images
    failed: int  # images that could not be read

    @property
    def anomalous(self) -> int:
        """Images whose score exceeds the threshold."""
        return sum(bool(record.get("is_anomalous")) for record in self.records)


def run(config: LocalizeConfig) -> LocalizationResult:
    """Localize anomalies in every image and write the pictures and the manifest.

    An image that cannot be read is reported and skipped; the others are written.
    """
    files = find_images(config.images, exclude=config.output)
    stems = output_stems(files)
    localizer = open_localizer(config.model, config.map)
    prepare_output_folder(config.output, overwrite=config.overwrite)
    common = _common_record(localizer)
    records: list[Record] = []
    try:
        with console.counting_progress("localizing", len(files)) as advance:
            for record in _localize_all([f.path for f in files], stems, localizer, config):
                place = {"image": files[len(records)].relative.as_posix()}
                records.append(place | record | common)
                advance()
    finally:  # after Ctrl-C or a full disk, the manifest tells what is complete
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        write_text(config.output / MANIFEST_FILE, "".join(lines))
    return LocalizationResult(config.output, records, sum("error" in r for r in records))


def _common_record(localizer: Localizer) -> Record:
    low, high = localizer.colour_range
    return {
        "map": str(localizer.spec),
        "threshold": localizer.threshold.value,
        "threshold_rule": localizer.threshold.rule,
        "colour_range": [low, high],
        "category": localizer.loaded.record.category,
        "model_sha256": localizer.loaded.sha256,
        "schema_version": SCHEMA_VERSION,
    }


def _localize_all(
    paths: list[Path], stems: list[Path], localizer: Localizer, config: LocalizeConfig
) -> Iterator[Record]:
    """Manifest lines in order; threads render and write while the network works on."""
    drawn = localize_files(
        paths,
        localizer.maker,
        localizer.spec,
        batch_size=config.map.batch_size,
        workers=config.map.workers,
    )
    write = partial(_write_image, stems=stems, localizer=localizer, config=config)
    with ThreadPoolExecutor(config.map.workers) as pool:
        yield from ordered_map(pool, write, drawn, limit=2 * config.map.batch_size)


def _write_image(
    result: LocalizedImage | DataError,
    *,
    stems: list[Path],
    localizer: Localizer,
    config: LocalizeConfig,
) -> Record:
    if isinstance(result, DataError):
        console.warn(f"skipped: {result}")
        return {"error": str(result)}
    stem = stems[result.position]
    height, width = result.image.shape[:2]
    anomaly_map = resize_map(result.anomaly_map, height, width)
    mask = anomaly_map > localizer.threshold.value
    levels = heat_levels(anomaly_map, localizer.colour_range)
    outputs = {}
    if config.maps:
        outputs["map"] = _place("maps", stem, ".tiff")
        write_tiff(config.output / outputs["map"], anomaly_map)
    if config.heatmaps:
        outputs["heatmap"] = _place("heatmaps", stem, ".png")
        write_png(config.output / outputs["heatmap"], levels, palette=PALETTE)
    if config.overlays:
        outputs["overlay"] = _place("overlays", stem, ".png")
        write_png(config.output / outputs["overlay"], overlay(result.image, levels, mask))
    if config.masks:
        outputs["mask"] = _place("masks", stem, ".png")
        write_png(config.output / outputs["mask"], mask)
    return {
        "score": result.score,
        "is_anomalous": result.score > localizer.threshold.value,
        "anomalous_share": float(mask.mean()),
        "height": height,
        "width": width,
        "outputs": outputs,
    }


def _place(kind: str, stem: Path, suffix: str) -> str:
    return f"{kind}/{stem.as_posix()}{suffix}"
