"""Reports as one self-contained HTML file: no network, no script, no font."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import anomaly_cli
from anomaly_cli.evaluation.metric_names import RANGED, SUMMARY, TITLES
from anomaly_cli.evaluation.reports import wording
from anomaly_cli.evaluation.reports.published import CAVEAT, METHODS, TABLE_2
from anomaly_cli.evaluation.results import CategoryResult, EvaluationReport
from anomaly_cli.files import numbers
from anomaly_cli.files.page import page_template, picture_url
from anomaly_cli.metrics.curves import Curves

PLOT = 120  # side of a plot in units of its SVG
_POINTS = 100  # of a curve at most


class Plot(NamedTuple):
    """One curve in a square of side `PLOT`."""

    title: str
    path: str  # SVG path of the curve
    fill: str  # SVG path of the area below, up to the limit if there is one


def to_html(report: EvaluationReport) -> str:
    """Format the whole report as HTML, with all names escaped."""
    filters: dict[str, Callable[..., Any]] = {"number": numbers.number, "picture": picture_url}
    return page_template("anomaly_cli.evaluation.reports", "report.html.jinja", filters).render(
        report=report,
        version=anomaly_cli.__version__,
        rows=report.rows,
        means=report.means() if len(report.results) > 1 else {},
        mean_intervals=report.mean_intervals(),
        failed=[gate for gate in report.gates if not gate.is_met],
        conditions=wording.conditions(report),
        mean_ranges=report.mean_ranges() if len(report.results) > 1 else {},
        ranged=RANGED,
        summary=SUMMARY,
        titles=TITLES,
        wording=wording,
        numbers=numbers,
        paper=TABLE_2,
        paper_means=_paper_means(report),
        methods=METHODS,
        caveat=CAVEAT,
        plots={result.metrics.category: _plots(result) for result in report.results},
        side=PLOT,
    )


def _paper_means(report: EvaluationReport) -> dict[str, tuple[float, list[float]]]:
    """Compute the means of this run and of the paper's columns over the shared categories."""
    rows = [row for row in report.rows if row.category in TABLE_2]
    if len(rows) < 2:
        return {}
    return {
        metric: (
            float(np.mean([getattr(row, metric) for row in rows])),
            np.mean([getattr(TABLE_2[row.category], field) for row in rows], axis=0).tolist(),
        )
        for metric, field in (("pixel_auroc", "pixel_auroc"), ("best_iou", "overlap"))
    }


def _plots(result: CategoryResult) -> Sequence[Plot]:
    curves = result.curves
    if curves is None or curves.recall.size == 0:
        return ()
    row = result.metrics
    return (
        _plot(f"ROC, pixel AUROC {numbers.number(row.pixel_auroc)}", curves, curves.recall, None),
        _plot(f"PRO, AU-PRO 0.3 {numbers.number(row.aupro)}", curves, curves.overlap, 0.3),
    )


def _plot(title: str, curves: Curves, heights: NDArray[Any], limit: float | None) -> Plot:
    end = 1.0 if limit is None else limit
    kept = _thinned(curves.false_positive_rate.size)
    rates, climbed = curves.false_positive_rate[kept], heights[kept]
    within = rates <= end
    x = np.concatenate([[0.0], rates[within], [end, end]])
    y = np.concatenate([[0.0], climbed[within], [np.interp(end, rates, climbed), 0.0]])
    return Plot(title, _path(rates, climbed), _path(x, y) + "Z")


def _thinned(size: int) -> NDArray[np.int64]:
    """Choose at most _POINTS of `size` positions, evenly spaced, with both ends."""
    return np.unique(np.linspace(0, size - 1, min(_POINTS, size)).astype(np.int64))


def _path(x: NDArray[Any], y: NDArray[Any]) -> str:
    points = [f"{PLOT * across:.1f} {PLOT * (1 - up):.1f}" for across, up in zip(x, y, strict=True)]
    return "M" + "L".join(points)
