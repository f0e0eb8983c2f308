"""Progress over steps, and the scores of disentanglement as tables."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from anomaly_cli.console.streams import Settings, make_console, note, one_line
from anomaly_cli.disentangling.names import TITLES
from anomaly_cli.reports.numbers import difference, interval_text, number

if TYPE_CHECKING:
    from anomaly_cli.commands.disentangle import DisentangleResult
    from anomaly_cli.disentangling.training import StepStats

_NOTES = 20  # lines of one training off a terminal


class StepsProgress:
    """A bar over the steps on a terminal; elsewhere a line now and then."""

    def __init__(self, name: str, *, steps: int, done: int) -> None:
        console = make_console(stderr=True)
        self._name = name
        self._steps = steps
        self._next_note = done + steps / _NOTES
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=console,
            disable=not console.is_terminal or Settings.is_quiet,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=steps, completed=done, status="")

    def __enter__(self) -> "StepsProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, stats: "StepStats | None") -> None:
        """One step is done; with statistics at the end of a stretch of steps."""
        self._bar.update(self._task, advance=1)
        if stats is None:
            return
        status = f"reconstruction {stats.reconstruction:,.0f}, KL {stats.kl:.1f}"
        self._bar.update(self._task, status=status)
        if self._bar.disable and (stats.step >= self._next_note or stats.step == self._steps):
            self._next_note = stats.step + self._steps / _NOTES
            note(
                f"{self._name}, step {stats.step:,}/{self._steps:,}: {status}, overlap "
                f"{stats.overlap:.3f}, {stats.active_latents} active latents"
            )


def steps_progress(name: str, *, steps: int, done: int) -> StepsProgress:
    """Progress of one training, as a context manager."""
    return StepsProgress(name, steps=steps, done=done)


def show_disentanglement(result: "DisentangleResult") -> None:
    """Scores of one run, or the paired differences of a comparison."""
    if result.differences:
        _show_differences(result)
    else:
        run = result.runs[0]
        rows = [[TITLES[name], number(value)] for name, value in run.scores._asdict().items()]
        _table(run.name, ["score, in [0, 1]", ""], rows)
    note(f"written to {result.output} (report.html shows all of it)")


def _show_differences(result: "DisentangleResult") -> None:
    first, second = (run.method for run in result.runs[:2])
    _table(
        f"{second} minus {first}, {len(result.runs) // 2} paired seeds, 95% Student t interval",
        ["mean over seeds", first, second, "difference", "interval", "pairs"],
        [
            [
                TITLES[row.name],
                number(row.first),
                number(row.second),
                difference(row.mean, 0.0),
                interval_text((row.low, row.high)) or "n/a",
                str(row.pairs),
            ]
            for row in result.differences
        ],
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    make_console(stderr=False).print(table)
