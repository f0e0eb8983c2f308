"""`localize`: a model and images -> anomaly maps, heatmaps, overlays, masks and a manifest."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from anomaly_cli import console
from anomaly_cli.checkpoint import load_model
from anomaly_cli.config.commands import LocalizeConfig
from anomaly_cli.config.names import MANIFEST_FILE
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.mvtec import place_in_layout
from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.explanation import SHEET_TILE, contact_sheet, latent_overlay, scale_of, shrink
from anomaly_cli.files.atomic import prepare_output_folder, write_text
from anomaly_cli.files.images import (
    ImageFile,
    RGBImage,
    find_images,
    output_stems,
    read_image,
    resize_map,
    write_png,
    write_tiff,
)
from anomaly_cli.files.lists import expand_file_lists
from anomaly_cli.latents import ImageLatents, LatentSelection, select_latents, strongest
from anomaly_cli.localization import (
    LocalizedImage,
    Localizer,
    localize_files,
    open_localizer,
    ordered_map,
)
from anomaly_cli.masks import anomaly_mask
from anomaly_cli.rendering import PALETTE, heat_levels, overlay

SCHEMA_VERSION = 1
SHEET_LATENTS = 8  # on a contact sheet, where all latents were asked for

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


class _Plan(NamedTuple):
    """What is the same for all images of a run."""

    stems: list[Path]  # of the outputs
    localizer: Localizer
    selection: LatentSelection | None
    config: LocalizeConfig
    decode: Callable[[Path], RGBImage] = read_image


def run(config: LocalizeConfig, resolved: ResolvedSettings | None = None) -> LocalizationResult:
    """Localize anomalies in every image and write the pictures and the manifest.

    An image that cannot be read is reported and skipped; the others are written.
    """
    files, decode = _find_files(config)
    is_mirror = config.layout == "mirror"
    stems = output_stems(files) if is_mirror else [place_in_layout(f.path) for f in files]
    localizer = open_localizer(config.model, config.map)
    selection = None
    if config.latents is not None:
        latent_dim = localizer.loaded.record.model.latent_dim
        selection = select_latents(config.latents, latent_dim, localizer.spec)
    prepare_output_folder(config.output, overwrite=config.overwrite)
    write_settings(config.output, resolved)
    plan = _Plan(stems, localizer, selection, config, decode)
    common = _common_record(plan)
    records: list[Record] = []
    try:
        with console.counting_progress("localizing", len(files)) as advance:
            for record in _localize_all([f.path for f in files], plan):
                place = {"image": files[len(records)].relative.as_posix()}
                records.append(place | record | common)
                advance()
    finally:  # after Ctrl-C or a full disk, the manifest tells what is complete
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        write_text(config.output / MANIFEST_FILE, "".join(lines))
    return LocalizationResult(config.output, records, sum("error" in r for r in records))


def _find_files(config: LocalizeConfig) -> tuple[list[ImageFile], Callable[[Path], RGBImage]]:
    """The images, and what decodes them: files, or the test images of a data set."""
    if config.dataset is None:
        inputs = expand_file_lists(config.images)
        return find_images(inputs, exclude=config.output), read_image
    if len(config.images) != 1:
        raise ConfigError(f"--dataset {config.dataset} takes one folder: the root of its data")
    dataset, root = DATASETS[config.dataset], Path(config.images[0])
    category = load_model(config.model).record.category
    samples = dataset.test_samples(root, category)
    return [ImageFile(s.path, Path(s.name)) for s in samples], dataset.read_image


def _common_record(plan: _Plan) -> Record:
    localizer = plan.localizer
    record = {
        "map": str(localizer.spec),
        "scores": localizer.scores,
        **localizer.threshold.record(),
        "colour_range": list(localizer.colour_range),
        "category": localizer.loaded.record.category,
        "model_sha256": localizer.loaded.sha256,
        "schema_version": SCHEMA_VERSION,
    }
    if plan.selection is not None:
        record["latent_colour_range"] = list(localizer.latent_colour_range)
    return record


def _localize_all(paths: list[Path], plan: _Plan) -> Iterator[Record]:
    """Manifest lines in order; threads render and write while the network works on."""
    settings = plan.config.map
    drawn = localize_files(
        paths,
        plan.localizer.maker,
        plan.localizer.spec,
        batch_size=settings.batch_size,
        workers=settings.workers,
        with_latents=plan.selection is not None,
        decode=plan.decode,
    )
    write = partial(_write_image, plan=plan)
    with ThreadPoolExecutor(settings.workers) as pool:
        yield from ordered_map(pool, write, drawn, limit=2 * settings.batch_size)


def _write_image(result: LocalizedImage | DataError, *, plan: _Plan) -> Record:
    if isinstance(result, DataError):
        console.warn(f"skipped: {result}")
        return {"error": str(result)}
    config, localizer, stem = plan.config, plan.localizer, plan.stems[result.position]
    height, width = result.image.shape[:2]
    anomaly_map = resize_map(result.anomaly_map, height, width)
    mask = anomaly_mask(anomaly_map, localizer.threshold)
    levels = heat_levels(anomaly_map, localizer.colour_range)
    outputs = {}
    if config.maps:
        is_mirror = config.layout == "mirror"
        outputs["map"] = _place("maps", stem, ".tiff") if is_mirror else f"{stem.as_posix()}.tiff"
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
    record: Record = {
        "score": result.score,
        "is_anomalous": result.score > localizer.threshold.value,
        "anomalous_share": float(mask.mean()),
        "height": height,
        "width": width,
        "outputs": outputs,
    }
    if plan.selection is not None and result.latents is not None:
        deviations = abs(result.latents.deviations)
        chosen = strongest(plan.selection.choose(deviations), deviations)
        outputs["sheet"] = _write_sheet(result, chosen, plan)
        record["peak"] = result.latents.peak.record()
        record["latents"] = _write_latents(result, result.latents, chosen, plan)
    return record


def _write_sheet(result: LocalizedImage, chosen: list[int], plan: _Plan) -> str:
    stem = plan.stems[result.position]
    shown = chosen[:SHEET_LATENTS] if plan.config.latents == "all" else chosen
    image = shrink(stem.as_posix(), result, SHEET_TILE)
    place = _place("sheets", stem, ".png")
    write_png(plan.config.output / place, contact_sheet(image, shown, scale_of(plan.localizer)))
    return place


def _write_latents(
    result: LocalizedImage, latents: ImageLatents, chosen: list[int], plan: _Plan
) -> list[Record]:
    """An overlay of each latent, and the numbers behind it."""
    stem, side = plan.stems[result.position], plan.localizer.maker.size
    records = []
    for latent in chosen:
        place = f"latents/{stem.as_posix()}/latent_{latent:02}.png"
        picture = latent_overlay(
            result.image, latents.maps[latent], side, plan.localizer.latent_colour_range
        )
        write_png(plan.config.output / place, picture)
        kinds = plan.localizer.loaded.record.latent_kinds
        named = {"kind": kinds[latent]} if kinds else {}
        records.append({**latents.record(latent), **named, "overlay": place})
    return records


def _place(kind: str, stem: Path, suffix: str) -> str:
    return f"{kind}/{stem.as_posix()}{suffix}"
