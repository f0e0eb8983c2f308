"""Results of `sample`, `train`, `localize`, `explain` and `export` as tables on stdout."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from anomaly_cli.cli.terminal import make_console, note, warn
from anomaly_cli.files.numbers import (
    loss_text,
    one_line,
    rate_range_text,
)

if TYPE_CHECKING:
    from anomaly_cli.commands.explain import ExplainResult
    from anomaly_cli.commands.export import ExportResult
    from anomaly_cli.commands.localize import LocalizationResult
    from anomaly_cli.commands.sample import SampleResult
    from anomaly_cli.commands.train import TrainedCategory


def print_table(
    title: str, columns: Iterable[str], rows: Iterable[Sequence[str]], *, texts: int = 1
) -> None:
    """Print a table; the first `texts` columns are text, the others numbers."""
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    make_console(stderr=False).print(table)


def show_samples(result: "SampleResult") -> None:
    """Print a table of the data set that `sample` wrote."""
    print_table(
        f"Sample data set in {result.destination}",
        ["category", "normal for training", "normal for test", "anomalous for test"],
        [
            [row.category, str(row.train), str(row.test_normal), str(row.test_anomalous)]
            for row in result.categories
        ],
    )


def show_training(results: Sequence["TrainedCategory"]) -> None:
    """Print a table of the trained models, and the expected false alarms of each on stderr."""
    print_table(
        "Trained models",
        ["category", "fit", "held out", "best epoch", "held-out loss", "map", "threshold", "model"],
        [
            [
                row.category,
                str(row.fit),
                str(row.held_out),
                str(row.epoch),
                "n/a" if row.held_out_loss is None else loss_text(row.held_out_loss),
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
                f"{row.category}: expected false-positive rate of the threshold on new normal "
                f"images: {rate_range_text(*row.expected_rates)} "
                f"(90% interval, {row.held_out} held out)"
            )


def show_localization(result: "LocalizationResult", *, rows: int = 20) -> None:
    """Print a table of the most anomalous images, and counts of all."""
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
    manifest = result.manifest
    note(f"written to {manifest.parent} (one line per image in {manifest.name})")
    if result.failed:
        warn(f"{result.failed} of {len(result.records)} images could not be read")


def show_explanation(result: "ExplainResult") -> None:
    """Print a table of the latents in the figure, if the model has any."""
    report = result.report
    drawn = [record for record in report["images"] if "error" not in record]
    if report["latents"]:
        print_table(
            f"Latents of {report['category']} on {len(drawn)} images ({report['map']})",
            ["latent", "mean deviation", "largest deviation", "in image", "mean share of the map"],
            [_explanation_row(place, row, drawn) for place, row in enumerate(report["latents"])],
        )
    note(f"written to {result.output} (explain.png, explain.json)")
    if result.failed:
        warn(f"{result.failed} of {len(report['images'])} images could not be read")


def show_export(result: "ExportResult") -> None:
    """Print what the exported file was compared with, and how close it came."""
    check = result.check
    print_table(
        f"Exported {result.category} ({result.map})",
        ["file", "checked images", "flipped verdicts", "largest difference of maps", "of masks"],
        [
            [
                str(result.path),
                str(check.images),
                "0",  # otherwise nothing is written
                f"{check.difference:.1e} of the range",
                f"{check.masks:.1e} of the pixels",
            ]
        ],
    )


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
