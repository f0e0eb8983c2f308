"""Evaluate anomaly maps of any source: count pixels, compute metrics, check bars, write reports."""

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.config.values import ImageScore, outline_text
from anomaly_cli.data.samples import Sample, kind_of
from anomaly_cli.errors import AnomalyCliError, ConfigError, DataError, DeviceError
from anomaly_cli.evaluation.counts import COUNT
from anomaly_cli.evaluation.gallery import draw_gallery
from anomaly_cli.evaluation.gates import (
    Baseline,
    differing_settings,
    judge_bars,
    judge_baseline,
    parse_bars,
    read_baseline,
    require_categories,
)
from anomaly_cli.evaluation.images import CategorySource, CountedImage, Sources, count_images
from anomaly_cli.evaluation.reports.write import write_reports
from anomaly_cli.evaluation.results import CategoryResult, EvaluationReport, Failure
from anomaly_cli.evaluation.summary import summarize
from anomaly_cli.files.lock import open_output_folder
from anomaly_cli.files.unread import name_unread
from anomaly_cli.files.versions import library_versions
from anomaly_cli.metrics.bootstrap import draw_weights
from anomaly_cli.progress import SILENT, Progress

# Compares the maps of samples with their ground truth: here, or with the help of other processes.
CountImages = Callable[[CategorySource, Sequence[Sample], ImageScore], Iterator[CountedImage]]

_LIBRARIES = ("numpy", "opencv-python", "opencv-python-headless", "pillow", "torch", "torchvision")


def score(
    sources: Sources,
    config: EvaluateConfig,
    resolved: ResolvedSettings | None = None,
    progress: Progress = SILENT,
    count: CountImages = count_images,
) -> EvaluationReport:
    """Evaluate each category, check the required metrics (bars), and write the report.

    If one of several categories fails, the report names it and holds the others.

    Args:
        sources: opens the test split and the maps of each category, by its name.
        config: settings of the evaluation.
        resolved: settings and their origins, written beside the report.
        progress: shows bars, warnings and errors.
        count: compares the maps with the ground truth.

    Raises:
        ConfigError: a bar, a format or the image score is invalid.
        DataError: a test split or the baseline cannot be used.
        OutputError: the report cannot be written.
    """
    bars = parse_bars(config.fail_under)
    require_categories(bars, list(sources))
    baseline = read_baseline(config.baseline) if config.baseline else None
    with open_output_folder(config.output, overwrite=config.overwrite):
        results, failures = _evaluate_each(sources, config, progress, count)
        report = EvaluationReport(
            results=tuple(results),
            failures=tuple(failures),
            settings=_settings(config),
            versions=library_versions(_LIBRARIES)
            | {"platform": f"{platform.system()} {platform.machine()}"},
        )
        gates = judge_bars(report, bars)
        if baseline is not None:
            gates += _judge_baseline(report, baseline, config, progress)
        report = replace(report, gates=tuple(gates))
        write_reports(config.output, report, config.formats, seed=config.seed)
        write_settings(config.output, resolved)
    return report


def _evaluate_each(
    sources: Sources, config: EvaluateConfig, progress: Progress, count: CountImages
) -> tuple[list[CategoryResult], list[Failure]]:
    results: list[CategoryResult] = []
    failures = []
    for name, open_source in sources.items():
        try:
            results.append(_evaluate(open_source(), config, progress, count))
        except AnomalyCliError as error:
            # A wrong option or device makes every category fail, and no result would be lost.
            is_of_all = isinstance(error, ConfigError | DeviceError) and not results
            if len(sources) == 1 or is_of_all:
                raise
            progress.error(f"{name}: {error}")
            failures.append(Failure(name, kind_of(name), error))
    return results, failures


def _evaluate(
    source: CategorySource, config: EvaluateConfig, progress: Progress, count: CountImages
) -> CategoryResult:
    if not source.samples:
        raise DataError(f"no images of {source.category} are left without the normal ones")
    name_unread([sample.path for sample in source.samples], progress)
    weights = draw_weights(
        [sample.defect_type for sample in source.samples],
        replicates=config.replicates,
        seed=config.seed,
        name=source.category,
    )
    # Without masks no pixel is counted, and there is nothing to stream.
    counts = COUNT[config.counting if source.has_masks else "exact"](
        source, partial(_count, count, source, config.image_score, progress), weights
    )
    result = summarize(source, counts, weights, score=config.image_score)
    if "html" not in config.formats:
        return result
    judged = counts.judged(result.metrics.table_threshold)
    gallery = draw_gallery(source, judged, result, count=config.gallery)
    return replace(result, misses=gallery.misses, false_alarms=gallery.false_alarms)


def _count(
    count: CountImages,
    source: CategorySource,
    image_score: ImageScore,
    progress: Progress,
    samples: Sequence[Sample],
    verb: str,
) -> Iterator[CountedImage]:
    with progress.bar(f"{verb} {source.category}", total=len(samples)) as bar:
        for image in count(source, samples, image_score):
            yield image
            bar.advance()


def _judge_baseline(
    report: EvaluationReport, baseline: Baseline, config: EvaluateConfig, progress: Progress
) -> list[Any]:
    for difference in differing_settings(report, baseline):
        progress.warn(f"{baseline.path} was made in another way: {difference}")
    is_complete = config.category == "all" and config.model is None
    gates = judge_baseline(report, baseline, max_drop=config.max_drop, is_complete=is_complete)
    if not gates and not report.failures:
        raise DataError(f"{baseline.path} shares no metric of a category with this evaluation")
    return gates


def _settings(config: EvaluateConfig) -> dict[str, Any]:
    """List the settings as JSON values, without those of the output folder."""
    chosen = asdict(config)
    for name in ("output", "overwrite"):
        del chosen[name]
    chosen |= {"formats": ",".join(config.formats), "image_score": str(config.image_score)}
    threshold, outline = config.map.threshold, config.map.outline
    chosen["map"] |= {
        "threshold": None if threshold is None else str(threshold),
        "outline": None if outline is None else outline_text(outline),
    }
    return {name: _plain(value) for name, value in chosen.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
