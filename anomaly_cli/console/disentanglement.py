"""Progress over steps, and the scores of disentanglement as tables."""

from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)

from anomaly_cli.console.progress import Bar
from anomaly_cli.console.streams import note
from anomaly_cli.console.tables import print_table
from anomaly_cli.disentangling.names import TITLES
from anomaly_cli.files.numbers import difference, interval_text, number

if TYPE_CHECKING:
    from anomaly_cli.commands.disentangle import DisentangleResult
    from anomaly_cli.disentangling.training import StepStats

_NOTES = 20  # lines of one training off a terminal


class StepsProgress(Bar):
    """A bar over the steps on a terminal; elsewhere a line now and then."""

    def __init__(self, name: str, *, steps: int, done: int) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}", markup=False),
        )
        self._name = name
        self._steps = steps
        self._next_note = done + steps / _NOTES
        self._task = self._bar.add_task(name, total=steps, completed=done, status="")

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
        print_table(run.name, ["score, in [0, 1]", ""], rows)
    note(f"written to {result.output} (report.html shows all of it)")


def _show_differences(result: "DisentangleResult") -> None:
    first, second = (run.method for run in result.runs[:2])
    print_table(
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
