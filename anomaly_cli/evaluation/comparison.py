"""Comparison of two reports of `evaluate` on the same test images: which is better, and where.

Both evaluations have drawn the same images again and again, so the difference of a metric is known
for each draw. Its interval is much narrower than those of the two values, because a hard image
counts in both.
"""

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.samples import GOOD
from anomaly_cli.errors import DataError
from anomaly_cli.evaluation.gates import read_baseline
from anomaly_cli.evaluation.metric_names import KEYS, LOWER_IS_BETTER
from anomaly_cli.evaluation.results import CategoryResult, mean
from anomaly_cli.files.read import refuse_special
from anomaly_cli.metrics.bootstrap import Interval

DRAWS_FILE = "draws.npz"  # beside report.json: metrics of each draw of the test images
OF_TYPES = ("image_auroc", "pixel_auroc", "iou", "recall")  # metrics of each defect type
_MOST_DRAWS = 100_000  # a file of more is not read
_SEED = "seed"
_SEPARATOR = "\n"  # between category and metric in the names of `DRAWS_FILE`; in no folder's name

Draws = Mapping[str, Mapping[str, NDArray[np.float64]]]  # by category and metric, (R,)


class Difference(NamedTuple):
    """One metric of the second report minus that of the first."""

    metric: str
    first: float
    second: float
    interval: Interval  # 95%, of the difference; NaN without draws

    @property
    def difference(self) -> float:
        """Second minus first; NaN where one is undefined."""
        return self.second - self.first

    @property
    def better(self) -> str:
        """`first` or `second`, where the interval leaves out zero; else empty."""
        if not (self.interval.low > 0 or self.interval.high < 0):
            return ""
        is_higher = self.interval.low > 0
        return "second" if is_higher != (self.metric in LOWER_IS_BETTER) else "first"


class TypeDifference(NamedTuple):
    """Metrics of one defect type in both reports, in the order of `OF_TYPES`."""

    defect_type: str
    images: int
    first: tuple[float, ...]
    second: tuple[float, ...]


class Verdicts(NamedTuple):
    """Images that one of the two calls anomalous and the other does not."""

    found_by_first: list[str]  # anomalous images
    found_by_second: list[str]
    alarms_of_first: list[str]  # normal images
    alarms_of_second: list[str]


@dataclass(frozen=True, kw_only=True)
class CategoryComparison:
    """Comparison of one category, or of the means of all."""

    category: str
    metrics: Sequence[Difference]
    defect_types: Sequence[TypeDifference] = ()
    verdicts: Verdicts | None = None  # None: of the means, or without thresholds


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Comparison of two reports."""

    first: Path
    second: Path
    categories: Sequence[CategoryComparison]
    means: CategoryComparison | None  # None: there is one category
    missing: Sequence[str]  # categories that only one of the reports has
    note: str = ""  # why there are no intervals

    @property
    def parts(self) -> list[CategoryComparison]:
        """The means, if there are any, and then the categories."""
        return [*([self.means] if self.means else []), *self.categories]


class _Drawn(NamedTuple):
    """Draws beside a report."""

    seed: int | None  # None: there are none
    draws: Draws


def draws_bytes(results: Sequence[CategoryResult], seed: int) -> bytes:
    """Encode the metrics of each draw of the test images, and its seed, for `DRAWS_FILE`."""
    arrays = {_SEED: np.array([seed])} | {
        f"{result.metrics.category}{_SEPARATOR}{metric}": np.asarray(values, np.float32)
        for result in results
        for metric, values in result.replicates.items()
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type] # numpy has an option there
    return stream.getvalue()


def compare_reports(first: Path, second: Path) -> Comparison:
    """Compare the categories that two reports share.

    Args:
        first: `report.json`, or its folder.
        second: the report whose metrics are reduced by those of the first.

    Raises:
        DataError: a report cannot be read, they share no category, or their test images differ.
    """
    paths = [path / "report.json" if path.is_dir() else path for path in (first, second)]
    rows = [read_baseline(path).categories for path in paths]
    draws = [_read_draws(path.with_name(DRAWS_FILE)) for path in paths]
    shared = [name for name in rows[0] if name in rows[1]]
    if not shared:
        raise DataError(f"{paths[0]} and {paths[1]} share no category")
    for name in shared:
        if rows[0][name].get("data_sha256") != rows[1][name].get("data_sha256"):
            raise DataError(
                f"the test images of {name} in {paths[0]} and {paths[1]} differ; a comparison "
                f"needs the same images"
            )
    note = _explain_no_intervals(draws)
    drawn = [{name: {} if note else own.draws.get(name, {}) for name in shared} for own in draws]
    return Comparison(
        first=paths[0],
        second=paths[1],
        categories=[
            _compare(name, rows[0][name], rows[1][name], drawn[0][name], drawn[1][name])
            for name in shared
        ],
        means=_compare_means(shared, rows, drawn) if len(shared) > 1 else None,
        missing=sorted({*rows[0], *rows[1]} - {*shared}),
        note=note,
    )


def _explain_no_intervals(draws: Sequence[_Drawn]) -> str:
    if any(own.seed is None for own in draws):
        return f"There are no intervals: a report has no {DRAWS_FILE} beside it."
    if draws[0].seed != draws[1].seed:
        return "There are no intervals: the two evaluations drew other images (--seed)."
    return ""


def _read_draws(path: Path) -> _Drawn:
    """Read the draws beside a report.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        return _Drawn(None, {})
    refuse_special(path)
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    try:
        _bound_arrays(path)
        with np.load(path, allow_pickle=False) as arrays:
            seed = int(arrays[_SEED].item())
            for name in set(arrays.files) - {_SEED}:
                category, metric = name.split(_SEPARATOR)
                found.setdefault(category, {})[metric] = arrays[name].astype(np.float64).ravel()
    # numpy and zipfile raise OSError, ValueError, EOFError, BadZipFile, zlib.error and others.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {path}: {reason}; evaluate writes it anew") from error
    return _Drawn(seed, found)


def _bound_arrays(path: Path) -> None:
    """Refuse a file that unpacks to more than draws take."""
    with zipfile.ZipFile(path) as archive:
        largest = max((member.file_size for member in archive.infolist()), default=0)
    if largest > 4 * _MOST_DRAWS + 1024:
        raise ValueError(f"it holds an array of more than {_MOST_DRAWS:,} draws")


def _compare(
    category: str,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    first_draws: Mapping[str, NDArray[np.float64]],
    second_draws: Mapping[str, NDArray[np.float64]],
) -> CategoryComparison:
    return CategoryComparison(
        category=category,
        metrics=[
            Difference(
                metric,
                _number(first.get(metric)),
                _number(second.get(metric)),
                _interval(first_draws.get(metric), second_draws.get(metric)),
            )
            for metric in KEYS
        ],
        defect_types=_compare_types(first, second),
        verdicts=_compare_verdicts(first, second),
    )


def _compare_means(
    shared: Sequence[str], rows: Sequence[Mapping[str, Mapping[str, Any]]], draws: Sequence[Draws]
) -> CategoryComparison:
    """Compare means over the shared categories; each category is drawn on its own."""
    metrics = [_mean_difference(metric, shared, rows, draws) for metric in KEYS]
    return CategoryComparison(category=f"mean of {len(shared)}", metrics=metrics)


def _mean_difference(
    metric: str,
    shared: Sequence[str],
    rows: Sequence[Mapping[str, Mapping[str, Any]]],
    draws: Sequence[Draws],
) -> Difference:
    """Compare the means of a metric over the categories in which both reports define it."""
    names = [
        name
        for name in shared
        if all(math.isfinite(_number(own[name].get(metric))) for own in rows)
    ]
    first, second = (mean([_number(own[name][metric]) for name in names]) for own in rows)
    drawn = [[own[name].get(metric, np.zeros(0)) for name in names] for own in draws]
    sizes = {len(values) for own in drawn for values in own}
    if len(sizes) != 1:
        return Difference(metric, first, second, Interval(math.nan, math.nan))
    means = [np.mean(own, axis=0) for own in drawn]
    return Difference(metric, first, second, _interval(means[0], means[1]))


def _interval(first: NDArray[np.float64] | None, second: NDArray[np.float64] | None) -> Interval:
    """Compute the 95% percentile interval of the difference over the draws that both have."""
    if first is None or second is None or first.shape != second.shape:
        return Interval(math.nan, math.nan)
    differences = second - first
    defined = differences[np.isfinite(differences)]
    if not defined.size:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(float(low), float(high))


def _compare_types(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[TypeDifference]:
    tables = [
        {row["defect_type"]: row for row in own.get("defect_types") or ()}
        for own in (first, second)
    ]
    return [
        TypeDifference(
            name,
            int(row["images"]),
            tuple(_number(row.get(metric)) for metric in OF_TYPES),
            tuple(_number(tables[1][name].get(metric)) for metric in OF_TYPES),
        )
        for name, row in tables[0].items()
        if name in tables[1] and name != GOOD
    ]


def _compare_verdicts(first: Mapping[str, Any], second: Mapping[str, Any]) -> Verdicts | None:
    """List the images that the two judge otherwise; None if they judge no image both."""
    tables = [
        {row["image"]: row for row in own.get("image_table") or ()} for own in (first, second)
    ]
    found, judged = Verdicts([], [], [], []), 0
    for name, row in tables[0].items():
        other = tables[1].get(name)
        if other is None or None in {row.get("is_called"), other.get("is_called")}:
            continue
        judged += 1
        if bool(row["is_called"]) == bool(other["is_called"]):
            continue
        place = 2 * (row["defect_type"] == GOOD) + (not row["is_called"])
        found[place].append(name)
    return found if judged else None


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan
