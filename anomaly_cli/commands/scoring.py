"""What `evaluate` does with any source of maps: count, summarise, judge, write."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from anomaly_cli import console
from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.counting import COUNT
from anomaly_cli.data.samples import Sample, kind_of
from anomaly_cli.errors import AnomalyCliError, ConfigError, DataError, DeviceError
from anomaly_cli.evaluation import CategorySource, CountedImage, count_images
from anomaly_cli.files.atomic import prepare_output_folder
from anomaly_cli.files.versions import library_versions
from anomaly_cli.gallery import draw_gallery
from anomaly_cli.metrics.bootstrap import draw_weights
from anomaly_cli.reports.gates import (
    Baseline,
    differing_settings,
    judge_bars,
    judge_baseline,
    parse_bars,
    read_baseline,
    require_categories,
)
from anomaly_cli.reports.results import CategoryResult, EvaluationReport, Failure
from anomaly_cli.reports.write import parse_formats, write_reports
from anomaly_cli.scores import ImageScore, parse_image_score
from anomaly_cli.summary import summarize

Sources = Mapping[str, Callable[[], CategorySource]]  # opened one by one, by category

_LIBRARIES = ("numpy", "opencv-python", "opencv-python-headless", "pillow", "torch", "torchvision")


def score(
    sources: Sources, config: EvaluateConfig, resolved: ResolvedSettings | None = None
) -> EvaluationReport:
    """Score each category, judge it by the bars, and write the report.

    Of several categories, one that fails costs its own row alone: the report names it and holds
    the others.

    Raises:
        ConfigError: a bar, a format or the image score is not understood.
        DataError: a test split or the baseline cannot be used.
        OutputError: the report cannot be written.
    """
    bars, formats = parse_bars(config.fail_under), parse_formats(config.formats)
    require_categories(bars, list(sources))
    baseline = read_baseline(config.baseline) if config.baseline else None
    parse_image_score(config.image_score)
    prepare_output_folder(config.output, overwrite=config.overwrite)
    results, failures = _evaluate_each(sources, config)
    report = EvaluationReport(
        results=tuple(results),
        failures=tuple(failures),
        settings=_settings(config),
        versions=library_versions(_LIBRARIES)
        | {"platform": f"{platform.system()} {platform.machine()}"},
    )
    gates = judge_bars(report, bars)
    if baseline is not None:
        gates += _judge_baseline(report, baseline, config)
    report = replace(report, gates=tuple(gates))
    write_reports(config.output, report, formats)
    write_settings(config.output, resolved)
    return report


def _evaluate_each(
    sources: Sources, config: EvaluateConfig
) -> tuple[list[CategoryResult], list[Failure]]:
    results: list[CategoryResult] = []
    failures = []
    for name, open_source in sources.items():
        try:
            results.append(_evaluate(open_source(), config))
        except AnomalyCliError as error:
            # An option or a device is at fault for all: nothing is lost by ending here.
            is_of_all = isinstance(error, ConfigError | DeviceError) and not results
            if len(sources) == 1 or is_of_all:
                raise
            console.error(f"{name}: {error}")
            failures.append(Failure(name, kind_of(name), error))
    return results, failures


def _evaluate(source: CategorySource, config: EvaluateConfig) -> CategoryResult:
    if not source.samples:
        raise DataError(f"no images of {source.category} are left without the normal ones")
    image_score = parse_image_score(config.image_score)
    weights = draw_weights(
        [sample.defect_type for sample in source.samples],
        replicates=config.replicates,
        seed=config.seed,
        name=source.category,
    )
    # Without masks no pixel is counted, and there is nothing to stream.
    counts = COUNT[config.counting if source.has_masks else "exact"](
        source, partial(_draw, source, image_score), weights
    )
    result = summarize(source, counts, weights, score=image_score)
    if "html" not in parse_formats(config.formats):
        return result
    judged = counts.judged(result.metrics.table_threshold)
    gallery = draw_gallery(source, judged, result, count=config.gallery)
    return replace(result, misses=gallery.misses, false_alarms=gallery.false_alarms)


def _draw(
    source: CategorySource, image_score: ImageScore, samples: Sequence[Sample], verb: str
) -> Iterator[CountedImage]:
    with console.counting_progress(f"{verb} {source.category}", len(samples)) as advance:
        for image in count_images(source, samples, image_score):
            yield image
            advance()


def _judge_baseline(
    report: EvaluationReport, baseline: Baseline, config: EvaluateConfig
) -> list[Any]:
    for difference in differing_settings(report, baseline):
        console.warn(f"{baseline.path} was made in another way: {difference}")
    is_complete = config.category == "all" and config.model is None
    gates = judge_baseline(report, baseline, max_drop=config.max_drop, is_complete=is_complete)
    if not gates and not report.failures:
        raise DataError(f"{baseline.path} shares no metric of a category with this evaluation")
    return gates


def _settings(config: EvaluateConfig) -> dict[str, Any]:
    """What the user chose, as JSON values; where the report went is not a part of it."""
    chosen = asdict(config)
    for name in ("output", "overwrite"):
        del chosen[name]
    return {name: _plain(value) for name, value in chosen.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
