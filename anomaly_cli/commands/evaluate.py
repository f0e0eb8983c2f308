"""`evaluate`: trained models and their test splits -> metrics of each category, and a report."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from anomaly_cli import console
from anomaly_cli.commands.map_tables import write_baselines
from anomaly_cli.commands.paper_results import write_paper_results
from anomaly_cli.commands.scoring import Sources, score
from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.names import MODEL_FILE
from anomaly_cli.config.toml import ResolvedSettings
from anomaly_cli.data.datasets import DATASETS, data_fingerprint, mask_gap
from anomaly_cli.data.samples import GOOD, Sample, spread_samples
from anomaly_cli.errors import CheckpointError, ConfigError, DataError
from anomaly_cli.evaluation import CategorySource, DrawnMap
from anomaly_cli.latents import name_latents
from anomaly_cli.localization import Localizer, localize_files, open_localizer
from anomaly_cli.reports.results import EvaluationReport


def run(config: EvaluateConfig, resolved: ResolvedSettings | None = None) -> EvaluationReport:
    """Score each model on the test split of its category and write the report."""
    report = score(find_models(config), config, resolved)
    for row in report.rows:
        if row.lacks:
            console.note(f"{row.category}: {row.lacks}")
    write_paper_results(report, config, find_models)
    if config.baselines:
        write_baselines(report.rows, config, find_models)
    return report


def find_models(config: EvaluateConfig) -> Sources:
    """How to open the model of each category."""
    wanted = "" if config.category == "all" else config.category
    if config.model is not None:
        localizer = open_localizer(config.model, config.map)
        name = wanted or localizer.loaded.record.category
        return {name: partial(_source, name, localizer, config)}
    found = _trained(config)
    if wanted and wanted not in found:
        raise ConfigError(f"no model of {wanted} under {config.runs}; found: {', '.join(found)}")
    chosen = {wanted: found[wanted]} if wanted else found
    return {name: partial(_open, name, path, config) for name, path in chosen.items()}


def _trained(config: EvaluateConfig) -> dict[str, Path]:
    """Models by category; one whose training left none stands for an error when it is opened."""
    folders = sorted(path for path in config.runs.glob("*") if path.is_dir())
    if config.dataset != "mvtec":  # models of other data sets may lie beside
        known = DATASETS[config.dataset].select_categories(config.data, "all")
        folders = [path for path in folders if path.name in {*known, config.category}]
    found = {path.name: path / MODEL_FILE for path in folders if (path / MODEL_FILE).is_file()}
    if not found:
        raise CheckpointError(f"no {config.runs}/<category>/{MODEL_FILE}; run train first")
    categories = {path.parent.name for path in config.data.glob("*/test") if path.is_dir()}
    unfinished = {p.name: p / MODEL_FILE for p in folders if p.name in categories - found.keys()}
    never = sorted(categories - found.keys() - unfinished.keys())
    if never and config.category == "all":
        console.note(f"no model of {', '.join(never)} under {config.runs}: not evaluated")
    return dict(sorted((found | unfinished).items()))


def _open(category: str, path: Path, config: EvaluateConfig) -> CategorySource:
    return _source(category, open_localizer(path, config.map), config)


def _source(category: str, localizer: Localizer, config: EvaluateConfig) -> CategorySource:
    dataset = DATASETS[config.dataset]
    samples = spread_samples(dataset.test_samples(config.data, category), config.limit)
    gap = mask_gap(samples)
    gaps = [*dataset.explain_gaps(config.data, category, samples), *([gap] if gap else [])]
    samples = [sample for sample in samples if config.good or sample.defect_type != GOOD]

    def draw(chosen: Sequence[Sample]) -> Iterator[DrawnMap]:
        results = localize_files(
            [sample.path for sample in chosen],
            localizer.maker,
            localizer.spec,
            batch_size=config.map.batch_size,
            workers=config.map.workers,
            decode=dataset.read_image,
        )
        for sample, result in zip(chosen, results, strict=True):
            if isinstance(result, DataError):
                raise result  # a metric over fewer images would be another metric
            height, width, _channels = result.image.shape
            yield DrawnMap(result.anomaly_map, height, width, str(sample.path))

    paths = [sample.path for sample in samples]
    masks = [sample.mask_path for sample in samples if sample.mask_path]
    return CategorySource(
        category=category,
        samples=samples,
        draw=draw,
        threshold=localizer.threshold,
        map=localizer.map_name,
        resolution=None if config.resolution == "original" else localizer.maker.size,
        colour_range=localizer.colour_range,
        model_sha256=localizer.loaded.sha256,
        data_sha256=data_fingerprint(dataset, paths, root=config.data, masks=masks),
        latents=name_latents(localizer.loaded.record.latent_kinds)
        if localizer.spec.has_latents
        else "",
        read=dataset.read_image,
        has_masks=not gap,
        lacks="; ".join(gaps),
    )
