"""Results of `evaluate` as tables on stdout."""

import math
from collections.abc import Sequence

from anomaly_cli.cli.show.tables import print_table
from anomaly_cli.cli.terminal import note
from anomaly_cli.evaluation.comparison import Comparison
from anomaly_cli.evaluation.metric_names import TERMINAL, TERMINAL_RANGES, TITLES
from anomaly_cli.evaluation.reports.comparison import ends_text, notes, sentences
from anomaly_cli.evaluation.results import EvaluationReport, Gate
from anomaly_cli.files.numbers import at_least, difference, interval_text, number, range_text


def show_evaluation(report: EvaluationReport) -> None:
    """Print tables of the categories with their means, of failures, and of unmet bars."""
    if report.rows:
        _show_metrics(report)
    if report.is_streaming:
        _show_ranges(report)
    if report.failures:
        count = len(report.failures)
        print_table(
            f"{count} of {count + len(report.rows)} categories could not be evaluated",
            ["category", "reason"],
            [[failure.category, str(failure.error)] for failure in report.failures],
            texts=2,
        )
    if report.gates:
        _show_gates(report.gates)


def show_comparison(comparison: Comparison) -> None:
    """Print the differences of two reports, and say which images they judge otherwise."""
    for part in comparison.parts:
        print_table(
            f"{part.category}: second minus first, with 95% intervals",
            ["metric", "first", "second", "difference", "95% interval", "better"],
            [
                [
                    TITLES[row.metric],
                    number(row.first),
                    number(row.second),
                    difference(row.second, row.first),
                    ends_text(row),
                    row.better,
                ]
                for row in part.metrics
            ],
        )
        for sentence in sentences(part.verdicts) if part.verdicts else ():
            note(f"{part.category}: {sentence}")
    for sentence in notes(comparison):
        note(sentence)


def _show_metrics(report: EvaluationReport) -> None:
    names = TERMINAL
    rows = [[row.category, *(number(getattr(row, name)) for name in names)] for row in report.rows]
    if len(rows) > 1:
        for group, means in report.means().items():
            rows.append([f"mean of {group}", *(number(means[name]) for name in names)])
    sizes = sorted(
        {f"{row.resolution} px" if row.resolution else "original size" for row in report.rows}
    )
    maps = sorted({row.map for row in report.rows})
    good = "" if any(row.good for row in report.rows) else "; normal images left out"
    print_table(
        f"{', '.join(maps)} at {', '.join(sizes)}{good}; "
        "IoU, precision and recall at the stored threshold",
        ["category", *(TITLES[name] for name in TERMINAL)],
        rows,
    )


def _show_ranges(report: EvaluationReport) -> None:
    """Print the range that holds the exact value of each pixel metric."""
    rows = [
        # A short joint, so that five ranges fit into a line of a CI log.
        [
            r.metrics.category,
            *(range_text(r.range(name), joint="-") for name in TERMINAL_RANGES),
        ]
        for r in report.results
    ]
    if len(rows) > 1:
        for group, ranges in report.mean_ranges().items():
            ends = (range_text(ranges[name], joint="-") for name in TERMINAL_RANGES)
            rows.append([f"mean of {group}", *ends])
    print_table(
        "Ranges that hold the exact values (streaming counts)",
        ["category", *(TITLES[name] for name in TERMINAL_RANGES)],
        rows,
    )


def _show_gates(gates: Sequence[Gate]) -> None:
    """Print the bars that are not met, and how many are met."""
    failed = [gate for gate in gates if not gate.is_met]
    title = f"{len(gates) - len(failed)} of {len(gates)} bars are met"
    print_table(
        title + ("; these are not" if failed else ""),
        ["category", "metric", "value", "95% interval", "bar", "baseline", "baseline interval"],
        [
            [
                gate.category,
                gate.metric,
                _value(gate),
                interval_text(gate.interval),
                f"{gate.bar:.4g}",
                "" if gate.baseline is None else f"{gate.baseline:.4g}",
                interval_text(gate.baseline_interval),
            ]
            for gate in failed
        ],
    )


def _value(gate: Gate) -> str:
    is_exact = not math.isfinite(gate.value) or gate.at_least == gate.value
    return number(gate.value) + ("" if is_exact else f" (at least {at_least(gate.at_least)})")
