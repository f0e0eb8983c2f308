"""Reports as GitHub Markdown, for a step summary of CI or a comment."""

from collections.abc import Iterable, Sequence

from anomaly_cli.evaluation.metric_names import RANGED, SUMMARY, TITLES
from anomaly_cli.evaluation.reports.published import CAVEAT, TABLE_2
from anomaly_cli.evaluation.reports.wording import (
    RANGES,
    bar_name,
    conditions,
    exact_note,
)
from anomaly_cli.evaluation.results import CategoryResult, EvaluationReport
from anomaly_cli.files import numbers as names
from anomaly_cli.files.numbers import (
    difference,
    interval_text,
    number,
    part_text,
    plus_minus,
    range_text,
    share_text,
    with_interval,
)

_WITH_INTERVAL = ("pixel_auroc", "best_iou")


def to_markdown(report: EvaluationReport) -> str:
    """Format the whole report as a few tables."""
    parts = ["# Anomaly localization", *_failures(report), *_gates(report), *_summary(report)]
    parts += [*_ranges(report), *_paper(report)]
    parts += [part for result in report.results for part in _defect_types(result)]
    return "\n\n".join(parts) + "\n"


def _failures(report: EvaluationReport) -> list[str]:
    if not report.failures:
        return []
    count = len(report.failures)
    heading = f"**{count} of {count + len(report.results)} categories could not be evaluated.**"
    rows = [
        [names.markdown(failure.category), names.markdown(str(failure.error))]
        for failure in report.failures
    ]
    return ["## Not evaluated", heading, markdown_table(["category", "reason"], rows, texts=2)]


def _ranges(report: EvaluationReport) -> list[str]:
    if not report.is_streaming:
        return []
    rows = [
        [names.markdown(result.metrics.category), *(range_text(result.range(m)) for m in RANGED)]
        for result in report.results
    ]
    if len(report.results) > 1:
        rows += [
            [f"mean of {group}", *(range_text(ranges[metric]) for metric in RANGED)]
            for group, ranges in report.mean_ranges().items()
        ]
    return [
        f"## {RANGES}",
        markdown_table(["category", *(TITLES[metric] for metric in RANGED)], rows),
    ]


def _gates(report: EvaluationReport) -> list[str]:
    if not report.gates:
        return []
    failed = sum(not gate.is_met for gate in report.gates)
    heading = (
        f"**{failed} of {len(report.gates)} bars are not met.**" if failed else "All bars met."
    )
    rows = [
        [
            names.markdown(gate.category),
            bar_name(gate),
            number(gate.value) + (f" ({note})" if (note := exact_note(gate)) else ""),
            interval_text(gate.interval),
            "" if gate.baseline is None else with_interval(gate.baseline, gate.baseline_interval),
            "met" if gate.is_met else "**not met**",
        ]
        for gate in sorted(report.gates, key=lambda gate: gate.is_met)
    ]
    columns = ["category", "bar", "value", "95% interval", "baseline", "verdict"]
    return ["## Bars", heading, markdown_table(columns, rows)]


def _summary(report: EvaluationReport) -> list[str]:
    rows = []
    for result in report.results:
        cells = [
            with_interval(getattr(result.metrics, name), result.intervals.get(name))
            if name in _WITH_INTERVAL
            else number(getattr(result.metrics, name))
            for name in SUMMARY
        ]
        rows.append([names.markdown(result.metrics.category), *cells])
    if len(report.results) > 1:
        intervals = report.mean_intervals()
        for group, means in report.means().items():
            cells = [
                with_interval(means[name], intervals.get(group, {}).get(name))
                if name in _WITH_INTERVAL
                else number(means[name])
                for name in SUMMARY
            ]
            rows.append([f"mean of {group}", *cells])
    columns = ["category", *(TITLES[name] for name in SUMMARY)]
    notes = "\n".join(f"- {names.markdown(sentence)}" for sentence in conditions(report))
    return ["## Metrics", markdown_table(columns, rows), notes]


def _paper(report: EvaluationReport) -> list[str]:
    rows = []
    for row in report.rows:
        paper = TABLE_2.get(row.category)
        if paper is None:
            continue
        auroc, overlap = paper.pixel_auroc, paper.overlap
        rows.append(
            [
                names.markdown(row.category),
                number(row.pixel_auroc),
                f"{auroc[-1]:.2f}",
                difference(row.pixel_auroc, auroc[-1]),
                *(f"{value:.2f}" for value in auroc[:-1]),
                number(row.best_iou),
                f"{overlap[-1]:.2f}",
                difference(row.best_iou, overlap[-1]),
            ]
        )
    if not rows:
        return []
    columns = ["category", "pixel AUROC", "paper", "difference", "AE-SSIM", "AE-L2", "AnoGAN"]
    columns += ["CNN dictionary", "best IoU (oracle)", "paper", "difference"]
    return ["## Beside Table 2 of the paper", markdown_table(columns, rows), CAVEAT]


def _defect_types(result: CategoryResult) -> list[str]:
    rows = [
        [
            names.markdown(row.defect_type),
            str(row.images),
            f"{number(row.pixel_auroc)} {plus_minus(row.pixel_auroc_bound)}".strip(),
            number(row.image_auroc),
            number(row.iou),
            number(row.recall),
            share_text(row.area),
            part_text(row.missed_regions, row.regions),
        ]
        for row in result.defect_types
    ]
    if not rows:
        return []
    columns = ["defect type", "images", "pixel AUROC", "image AUROC", "IoU", "recall", "area"]
    heading = f"## {names.markdown(result.metrics.category)}"
    return [heading, markdown_table([*columns, "missed regions"], rows)]


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Format a table whose first `texts` columns are text and the others numbers."""
    rule = [" --- " if place < texts else " ---: " for place in range(len(columns))]
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
