"""What `evaluate` does with any source of maps: count, summarise, judge, write."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anomaly_cli
from anomaly_cli import console
from anomaly_cli.config import EvaluateConfig
from anomaly_cli.errors import DataError
from anomaly_cli.evaluation import CategorySource, count_images
from anomaly_cli.files import prepare_output_folder
from anomaly_cli.gallery import draw_gallery
from anomaly_cli.reports.gates import (
    Baseline,
    differing_settings,
    judge_bars,
    judge_baseline,
    parse_bars,
    read_baseline,
    require_categories,
)
from anomaly_cli.reports.results import CategoryResult, EvaluationReport
from anomaly_cli.reports.write import parse_formats, write_reports
from anomaly_cli.scores import parse_image_score
from anomaly_cli.summary import summarize

Sources = Mapping[str, Callable[[], CategorySource]]  # opened one by one, by category

_LIBRARIES = ("numpy", "opencv-python", "opencv-python-headless", "pillow", "torch", "torchvision")


def score(sources: Sources, config: EvaluateConfig) -> EvaluationReport:
    """Score each category, judge it by the bars, and write the report.

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
    report = EvaluationReport(
        results=tuple(_evaluate(open_source(), config) for open_source in sources.values()),
        settings=_settings(config),
        versions=_versions(),
    )
    gates = judge_bars(report, bars)
    if baseline is not None:
        gates += _judge_baseline(report, baseline, config)
    report = replace(report, gates=tuple(gates))
    write_reports(config.output, report, formats)
    return report


def _evaluate(source: CategorySource, config: EvaluateConfig) -> CategoryResult:
    if not source.samples:
        raise DataError(f"no images of {source.category} are left without the normal ones")
    image_score = parse_image_score(config.image_score)
    counted = []
    with console.counting_progress(f"evaluating {source.category}", len(source.samples)) as advance:
        for image in count_images(source, image_score):
            counted.append(image)
            advance()
    result = summarize(
        source, counted, score=image_score, replicates=config.replicates, seed=config.seed
    )
    if "html" not in parse_formats(config.formats):
        return result
    gallery = draw_gallery(source, counted, result, count=config.gallery)
    return replace(result, misses=gallery.misses, false_alarms=gallery.false_alarms)


def _judge_baseline(
    report: EvaluationReport, baseline: Baseline, config: EvaluateConfig
) -> list[Any]:
    for difference in differing_settings(report, baseline):
        console.warn(f"{baseline.path} was made in another way: {difference}")
    is_complete = config.category == "all" and config.model is None
    gates = judge_baseline(report, baseline, max_drop=config.max_drop, is_complete=is_complete)
    if not gates:
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


def _versions() -> dict[str, str]:
    found = {"anomaly-cli": anomaly_cli.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"platform": f"{platform.system()} {platform.machine()}"}
