"""Gates of an evaluation: minimum metrics (bars), and comparison with an older report."""

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.evaluation.metric_names import COMPARED, GATED, KEYS
from anomaly_cli.evaluation.reports.machine import SCHEMA_VERSION
from anomaly_cli.evaluation.results import (
    UNDEFINED,
    CategoryResult,
    EvaluationReport,
    Gate,
)
from anomaly_cli.files.parse import parse_json
from anomaly_cli.metrics.bootstrap import Interval

GROUPS = ("textures", "objects", "all")  # of categories that are averaged
_SETTINGS_THAT_MATTER = ("map", "resolution", "mask_resizing", "image_score", "good", "data_sha256")


class Bar(NamedTuple):
    """The minimum that a metric must have."""

    category: str | None  # or a group, for its mean; None: each category
    metric: str
    minimum: float

    def __str__(self) -> str:
        """Format the bar as the user types it."""
        scope = f"{self.category}:" if self.category else ""
        return f"{scope}{self.metric}={self.minimum:g}"


class Baseline(NamedTuple):
    """An older report that a new one is compared with."""

    path: Path
    categories: Mapping[str, Mapping[str, Any]]  # rows of its JSON by name


def parse_bars(texts: Iterable[str]) -> list[Bar]:
    """Parse bars of the form "[CATEGORY:]METRIC=VALUE".

    Raises:
        ConfigError: a metric is unknown or better when lower, or a value is not in [0, 1].
    """
    return [_parse_bar(text) for text in texts]


def _parse_bar(text: str) -> Bar:
    name, _, value = text.rpartition("=")
    category, _, metric = name.rpartition(":")
    if metric in KEYS and metric not in GATED:
        raise ConfigError(f"--fail-under {text}: {metric} is better when lower")
    if metric not in GATED:
        raise ConfigError(
            f"--fail-under {text}: no metric {metric or text}; {_suggest(metric or text, GATED)}"
        )
    try:
        minimum = float(value)
    except ValueError:
        minimum = math.nan
    if not 0.0 <= minimum <= 1.0:
        raise ConfigError(f"--fail-under {text}: {value or 'nothing'} is no number from 0 to 1")
    return Bar(category or None, metric, minimum)


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}known: {', '.join(known)}"


def require_categories(bars: Iterable[Bar], categories: Sequence[str]) -> None:
    """Require that the category of each bar is evaluated.

    Raises:
        ConfigError: one is not; the message suggests a name.
    """
    known = [*categories, *(group for group in GROUPS if group not in categories)]
    for bar in bars:
        if bar.category and bar.category not in known:
            raise ConfigError(
                f"--fail-under {bar}: {bar.category} is not evaluated; "
                f"{_suggest(bar.category, known)}"
            )


def read_baseline(path: Path) -> Baseline:
    """Read an older `report.json`.

    Raises:
        DataError: the file is missing, not a report, or of another schema version.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
        categories = {_name(row): row for row in content["categories"]}
    except OSError as error:
        raise DataError(f"cannot read the baseline {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is no report of evaluate; --baseline takes report.json") from error
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {version}; this tool compares version {SCHEMA_VERSION}"
        )
    return Baseline(path, categories)


def _name(row: Mapping[str, Any]) -> str:
    """Read the name of a row of a report, and check its numbers.

    Raises:
        TypeError, ValueError: a name or a metric is of the wrong kind, or not finite.
    """
    name = row["category"]
    if not isinstance(name, str) or not isinstance(row, dict):
        raise TypeError("a row has no name")
    values = [row[metric] for metric in COMPARED if row.get(metric) is not None]
    for key in ("ranges", "intervals"):
        ends: dict[str, Any] = row.get(key) or {}
        values += [end for metric in COMPARED for end in ends.get(metric) or ()]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ValueError("a metric is no finite number")
    return name


def judge_bars(report: EvaluationReport, bars: Iterable[Bar]) -> list[Gate]:
    """Check each bar; one that names no category is checked for every category.

    Streaming counts give only the range of a metric. The low end of the range must be at least the
    bar, so that no bar is met by luck.
    """
    return [
        Gate(
            category=measured.category,
            metric=bar.metric,
            value=measured.value,
            interval=measured.interval,
            bar=bar.minimum,
            baseline=None,
            baseline_interval=UNDEFINED,
            is_met=measured.at_least >= bar.minimum,  # False for NaN
            at_least=measured.at_least,
            baseline_at_most=None,
        )
        for bar in bars
        for measured in _measured(report, bar)
    ]


class _Measured(NamedTuple):
    category: str  # or a group of means
    value: float
    interval: Interval
    at_least: float


def _measured(report: EvaluationReport, bar: Bar) -> Iterator[_Measured]:
    chosen = [r for r in report.results if bar.category in {None, r.metrics.category}]
    for result in chosen:
        yield _of_category(result, bar.metric)
    if not chosen and bar.category:
        means = report.means().get(bar.category, {})
        if bar.category in report.incomplete_groups():
            means = {}  # a mean over fewer categories is not comparable
        intervals = report.mean_intervals().get(bar.category, {})
        ranges = report.mean_ranges().get(bar.category, {})
        value = means.get(bar.metric, math.nan)
        at_least = ranges.get(bar.metric, Interval(value, value)).low if means else math.nan
        interval = intervals.get(bar.metric, UNDEFINED) if means else UNDEFINED
        yield _Measured(bar.category, value, interval, at_least)


def _of_category(result: CategoryResult, metric: str) -> _Measured:
    return _Measured(
        result.metrics.category,
        getattr(result.metrics, metric),
        result.intervals.get(metric, UNDEFINED),
        result.range(metric).low,
    )


def judge_baseline(
    report: EvaluationReport, baseline: Baseline, *, max_drop: float, is_complete: bool
) -> list[Gate]:
    """Compare every metric with the older report.

    Args:
        report: the new report.
        baseline: the older report; metrics that it leaves undefined are skipped.
        max_drop: largest allowed drop below the older value.
        is_complete: whether all categories were to be evaluated; if so, a missing one fails.
    """
    results = {result.metrics.category: result for result in report.results}
    gates = []
    for name, old in baseline.categories.items():
        result = results.get(name)
        if result is None and not is_complete:
            continue
        for metric in COMPARED:
            if not isinstance(old.get(metric), float | int):
                continue
            gates.append(_judge_drop(_of(result, name, metric), old, metric, max_drop))
    return gates


def _of(result: CategoryResult | None, name: str, metric: str) -> _Measured:
    return (
        _of_category(result, metric) if result else _Measured(name, math.nan, UNDEFINED, math.nan)
    )


def _judge_drop(measured: _Measured, old: Mapping[str, Any], metric: str, max_drop: float) -> Gate:
    """Compare the low end of the new value with the high end of the older one."""
    value = float(old[metric])
    ends = _old_ends(old, "ranges", metric)
    at_most = value if math.isnan(ends.high) else ends.high
    return Gate(
        category=measured.category,
        metric=metric,
        value=measured.value,
        interval=measured.interval,
        bar=value - max_drop,
        baseline=value,
        baseline_interval=_old_ends(old, "intervals", metric),
        # A rounding error is not a drop.
        is_met=measured.at_least >= at_most - max_drop - 1e-12,
        at_least=measured.at_least,
        baseline_at_most=at_most,
    )


def _old_ends(row: Mapping[str, Any], key: str, metric: str) -> Interval:
    ends = (row.get(key) or {}).get(metric)
    return Interval(*ends) if isinstance(ends, list) and len(ends) == 2 else UNDEFINED


def differing_settings(report: EvaluationReport, baseline: Baseline) -> list[str]:
    """List settings that differ from those of the older report and may explain a drop."""
    rows = [row for row in report.rows if row.category in baseline.categories]
    told = []
    for name in _SETTINGS_THAT_MATTER:
        changes = [
            f"{row.category} {name}: {old[name]}, now {getattr(row, name)}"
            for row in rows
            if name in (old := baseline.categories[row.category])
            and old[name] != getattr(row, name)
        ]
        more = f" (and {len(changes) - 1} more categories)" if len(changes) > 1 else ""
        told += [change + more for change in changes[:1]]
    return told
