"""Results -> rich tables and progress. Results go to stdout, everything else to stderr."""

import json
import math
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from anomaly_cli.commands.localize import LocalizationResult
    from anomaly_cli.commands.sample import SampleResult
    from anomaly_cli.commands.train import TrainedCategory
    from anomaly_cli.reports import EvaluationReport
    from anomaly_cli.training import EpochStats, StepStats

_WIDTH_WITHOUT_TERMINAL = 120  # stable in CI logs


class _Settings:
    """How much to say; set once by the command line."""

    is_quiet = False


def configure(*, quiet: bool) -> None:
    """Choose whether notes and progress are shown at all."""
    _Settings.is_quiet = quiet


def _console(*, stderr: bool) -> Console:
    # Made for each use, so that it writes to the stream that is current (tests swap them).
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    return console


def note(message: str) -> None:
    """One line of progress on stderr. Paths and names are printed as they are."""
    if not _Settings.is_quiet:
        _console(stderr=True).print(Text(message), soft_wrap=True)


def warn(message: str) -> None:
    """One warning on stderr, also with --quiet."""
    _console(stderr=True).print(Text(f"warning: {_one_line(message)}", "yellow"), soft_wrap=True)


def error(message: str) -> None:
    """One error on stderr, also with --quiet."""
    _console(stderr=True).print(Text(f"error: {_one_line(message)}", "bold red"), soft_wrap=True)


def _one_line(message: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


def print_json(value: Any) -> None:
    """One JSON document on stdout; what is undefined is null."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))  # noqa: T201


def number(value: float, digits: int = 3) -> str:
    """A metric as text; n/a where it is undefined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "n/a"


def _table(title: str, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_one_line(cell)) for cell in row))
    _console(stderr=False).print(table)


class _Rate(ProgressColumn):
    """Items per second, and whatever the command wants to add."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("status", "")))


def _progress(*columns: ProgressColumn) -> Progress:
    console = _console(stderr=True)
    is_shown = console.is_terminal and not _Settings.is_quiet
    return Progress(*columns, console=console, disable=not is_shown, transient=True)


class TrainingProgress:
    """A bar over the steps on a terminal, one line for each epoch elsewhere."""

    def __init__(self, category: str, *, epochs: int, steps: int, done: int) -> None:
        self._category = category
        self._epochs = epochs
        self._bar = _progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            _Rate(),
        )
        self._task = self._bar.add_task(category, total=epochs * steps, completed=done * steps)

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, stats: "StepStats | EpochStats") -> None:
        """Advance by one step, or report one epoch."""
        if hasattr(stats, "step"):
            status = f"reconstruction {stats.reconstruction:,.0f}  KL {stats.kl:.1f}"
            name = f"{self._category} epoch {stats.epoch}/{self._epochs}"
            self._bar.update(self._task, advance=1, status=status, description=name)
        else:
            self._bar.update(self._task, description=self._category)
            self._report(stats)

    def _report(self, stats: "EpochStats") -> None:
        left = self._bar.tasks[self._task].time_remaining
        eta = "" if left is None else f", ETA {left / 60:.1f} min"
        if _Settings.is_quiet:
            return
        self._bar.console.print(
            Text(
                f"{self._category} epoch {stats.epoch}/{self._epochs}: "
                f"reconstruction {stats.reconstruction:,.0f}, KL {stats.kl:.1f}, "
                f"held out {stats.held_out_loss:,.0f}{'*' if stats.is_best else ''}, "
                f"{stats.images_per_second:.1f} images/s{eta}"
            ),
            soft_wrap=True,
        )


def training_progress(category: str, *, epochs: int, steps: int, done: int) -> TrainingProgress:
    """Progress of one training, as a context manager."""
    return TrainingProgress(category, epochs=epochs, steps=steps, done=done)


class Counter(Protocol):
    """Progress over a known number of items."""

    def __call__(self) -> None:
        """One more is done."""


def counting_progress(name: str, total: int) -> "CountingProgress":
    """Progress over `total` items, as a context manager that gives a `Counter`."""
    return CountingProgress(name, total)


class CountingProgress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, name: str, total: int) -> None:
        self._bar = _progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(name, total=total)

    def __enter__(self) -> Counter:
        self._bar.start()
        return lambda: self._bar.update(self._task, advance=1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


def show_samples(result: "SampleResult") -> None:
    """Table of what `sample` wrote."""
    _table(
        f"Sample data set in {result.destination}",
        ["category", "normal for training", "normal for test", "anomalous for test"],
        [
            [row.category, str(row.train), str(row.test_normal), str(row.test_anomalous)]
            for row in result.categories
        ],
    )


def show_training(results: Sequence["TrainedCategory"]) -> None:
    """Table of the trained models."""
    _table(
        "Trained models",
        ["category", "fit", "held out", "best epoch", "held-out loss", "threshold", "model"],
        [
            [
                row.category,
                str(row.fit),
                str(row.held_out),
                str(row.epoch),
                f"{row.held_out_loss:,.0f}",
                f"{row.threshold:.4g} ({row.threshold_rule})",
                str(row.model),
            ]
            for row in results
        ],
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
    _table(
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


_EVALUATION_COLUMNS = {
    "pixel AUROC": "pixel_auroc",
    "best IoU (oracle)": "best_iou",
    "image AUROC": "image_auroc",
    "AU-PRO 0.3": "aupro",
    "IoU": "iou",
    "precision": "precision",
    "recall": "recall",
}


def show_evaluation(report: "EvaluationReport") -> None:
    """Table of the categories with their means."""
    names = _EVALUATION_COLUMNS.values()
    rows = [[row.category, *(number(getattr(row, name)) for name in names)] for row in report.rows]
    if len(report.rows) > 1:
        for group, means in report.means().items():
            rows.append([f"mean of {group}", *(number(means[name]) for name in names)])
    resolutions = sorted({row.resolution for row in report.rows})
    maps = sorted({row.map for row in report.rows})
    title = (
        f"{', '.join(maps)} at {', '.join(map(str, resolutions))} px; IoU, precision and recall "
    )
    _table(title + "at the stored threshold", ["category", *_EVALUATION_COLUMNS], rows)
