"""Results of the commands as tables on stdout."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from anomaly_cli.console.streams import make_console, note, warn
from anomaly_cli.files.numbers import (
    at_least,
    interval_text,
    loss_text,
    number,
    one_line,
    range_text,
    rate_range_text,
)

if TYPE_CHECKING:
    from anomaly_cli.commands.explain import ExplainResult
    from anomaly_cli.commands.localize import LocalizationResult
    from anomaly_cli.commands.sample import SampleResult
    from anomaly_cli.commands.train import TrainedCategory
    from anomaly_cli.reports.results import EvaluationReport, Gate


def print_table(
    title: str, columns: Iterable[str], rows: Iterable[Sequence[str]], *, texts: int = 1
) -> None:
    """The first `texts` columns are text, the others numbers."""
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    make_console(stderr=False).print(table)


def show_samples(result: "SampleResult") -> None:
    """Table of what `sample` wrote."""
    print_table(
        f"Sample data set in {result.destination}",
        ["category", "normal for training", "normal for test", "anomalous for test"],
        [
            [row.category, str(row.train), str(row.test_normal), str(row.test_anomalous)]
            for row in result.categories
        ],
    )


def show_training(results: Sequence["TrainedCategory"]) -> None:
    """Table of the trained models."""
    print_table(
        "Trained models",
        ["category", "fit", "held out", "best epoch", "held-out loss", "map", "threshold", "model"],
        [
            [
                row.category,
                str(row.fit),
                str(row.held_out),
                str(row.epoch),
                loss_text(row.held_out_loss),
                row.map,
                f"{row.threshold:.4g} ({row.threshold_rule})",
                str(row.model),
            ]
            for row in results
        ],
    )
    for row in results:
        if row.expected_rates:
            note(
                f"{row.category}: of new normal images the threshold calls "
                f"{rate_range_text(*row.expected_rates)} (90% interval, {row.held_out} held out)"
            )


def show_localization(result: "LocalizationResult", *, rows: int = 20) -> None:
    """Table of the most anomalous images, and the numbers of all."""
    drawn = sorted(
        (record for record in result.records if "error" not in record),
        key=lambda record: -record["score"],
    )
    shown = drawn[:rows]
    title = f"{result.anomalous} of {len(drawn)} images are anomalous"
    if len(shown) < len(drawn):
        title += f"; the {len(shown)} highest scores"
    print_table(
        title,
        ["image", "score", "threshold", "verdict", "anomalous area"],
        [
            [
                record["image"],
                f"{record['score']:.4g}",
                f"{record['threshold']:.4g}",
                "anomalous" if record["is_anomalous"] else "normal",
                f"{record['anomalous_share']:.2%}",
            ]
            for record in shown
        ],
    )
    note(f"written to {result.output} (one line per image in manifest.jsonl)")
    if result.failed:
        warn(f"{result.failed} of {len(result.records)} images could not be read")


def show_explanation(result: "ExplainResult") -> None:
    """Table of the latents in the figure."""
    report = result.report
    drawn = [record for record in report["images"] if "error" not in record]
    print_table(
        f"Latents of {report['category']} on {len(drawn)} images ({report['map']})",
        ["latent", "mean deviation", "largest deviation", "in image", "mean share of the map"],
        [_explanation_row(place, row, drawn) for place, row in enumerate(report["latents"])],
    )
    note(f"written to {result.output} (explain.png, explain.json)")
    if result.failed:
        warn(f"{result.failed} of {len(report['images'])} images could not be read")


def _explanation_row(
    place: int, row: dict[str, Any], images: Sequence[dict[str, Any]]
) -> list[str]:
    extreme = max(images, key=lambda image: abs(image["latents"][place]["deviation"]))
    share = row["mean_share"]
    return [
        f"z{row['latent']}",
        f"{row['mean_absolute_deviation']:.2f} sd",
        f"{extreme['latents'][place]['deviation']:+.2f} sd",
        extreme["image"],
        "n/a" if share is None else f"{share:.1%}",
    ]


_EVALUATION_COLUMNS = {
    "pixel AUROC": "pixel_auroc",
    "best IoU (oracle)": "best_iou",
    "image AUROC": "image_auroc",
    "AU-PRO 0.3": "aupro",
    "IoU": "iou",
    "precision": "precision",
    "recall": "recall",
}


_RANGED = {
    "pixel AUROC": "pixel_auroc",
    "best IoU (oracle)": "best_iou",
    "AU-PRO 0.3": "aupro",
    "pixel AP": "average_precision",
    "best F1 (oracle)": "best_f1",
}


def show_evaluation(report: "EvaluationReport") -> None:
    """Table of the categories with their means, of what failed, and of the bars."""
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


def _show_metrics(report: "EvaluationReport") -> None:
    names = _EVALUATION_COLUMNS.values()
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
        ["category", *_EVALUATION_COLUMNS],
        rows,
    )


def _show_ranges(report: "EvaluationReport") -> None:
    """How far each pixel metric may be off."""
    rows = [
        # Short, so that five ranges fit the line of a CI log.
        [
            r.metrics.category,
            *(range_text(r.range(name), joint="-") for name in _RANGED.values()),
        ]
        for r in report.results
    ]
    if len(rows) > 1:
        for group, ranges in report.mean_ranges().items():
            ends = (range_text(ranges[name], joint="-") for name in _RANGED.values())
            rows.append([f"mean of {group}", *ends])
    print_table(
        "Ranges that hold the exact values (streaming counts)", ["category", *_RANGED], rows
    )


def _show_gates(gates: "Sequence[Gate]") -> None:
    """Bars that are not met, and how many are."""
    failed = [gate for gate in gates if not gate.is_met]
    title = f"{len(gates) - len(failed)} of {len(gates)} bars are met"
    print_table(
        title + ("; these are not" if failed else ""),
        ["category", "metric", "value", "95% interval", "bar", "baseline", "its interval"],
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


def _value(gate: "Gate") -> str:
    is_exact = not math.isfinite(gate.value) or gate.at_least == gate.value
    return number(gate.value) + ("" if is_exact else f" (at least {at_least(gate.at_least)})")
