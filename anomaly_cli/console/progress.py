"""Progress on stderr: bars on a terminal, at most a line per epoch elsewhere."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from anomaly_cli.config.train import HALF_SAVES
from anomaly_cli.console.streams import Settings, make_console
from anomaly_cli.files.numbers import loss_text

if TYPE_CHECKING:
    from anomaly_cli.config.train import TrainConfig
    from anomaly_cli.training import EpochStats, StepStats


class _Rate(ProgressColumn):
    """Items per second, and whatever the command wants to add."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("status", "")))


class Bar:
    """A bar on a terminal, nothing elsewhere or where all is quiet; a context manager."""

    def __init__(self, *columns: ProgressColumn) -> None:
        console = make_console(stderr=True)
        is_shown = console.is_terminal and not Settings.is_quiet
        self._bar = Progress(*columns, console=console, disable=not is_shown, transient=True)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


class TrainingProgress(Bar):
    """A bar over the steps on a terminal, one line for each epoch elsewhere."""

    def __init__(self, config: "TrainConfig", *, steps: int, done: int) -> None:
        self._category = config.category
        self._epochs = config.epochs
        self._size = config.model.image_size
        half = config.half_epochs
        # In steps of whole images; those of half their size cost a quarter.
        total = steps * (self._epochs - HALF_SAVES * half)
        completed = steps * (done - HALF_SAVES * min(done, half))
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            _Rate(),
        )
        self._task = self._bar.add_task(config.category, total=total)
        self._bar.advance(self._task, completed)

    def update(self, stats: "StepStats | EpochStats") -> None:
        """Advance by one step, or report one epoch."""
        if hasattr(stats, "step"):
            # Short, so that the line fits 80 columns.
            status = f"loss {stats.reconstruction + stats.kl:,.0f}, KL {stats.kl:.0f}"
            name = f"{self._category} epoch {stats.epoch}/{self._epochs}"
            cost = (stats.image_size / self._size) ** 2
            self._bar.update(self._task, advance=cost, status=status, description=name)
        else:
            self._bar.update(self._task, description=self._category)
            self._report(stats)

    def _report(self, stats: "EpochStats") -> None:
        left = self._bar.tasks[self._task].time_remaining
        eta = "" if left is None else f", ETA {left / 60:.1f} min"
        if Settings.is_quiet:
            return
        held_out = ""
        if stats.held_out_loss is not None:
            held_out = f"held out {loss_text(stats.held_out_loss)}{'*' if stats.is_best else ''}, "
        self._bar.console.print(
            Text(
                f"{self._category} epoch {stats.epoch}/{self._epochs}: "
                f"reconstruction {stats.reconstruction:,.0f}, KL {stats.kl:.1f}, "
                f"{held_out}"
                f"{stats.images_per_second:.1f} images/s{eta}"
            ),
            soft_wrap=True,
        )


def training_progress(config: "TrainConfig", *, steps: int, done: int) -> TrainingProgress:
    """Progress of one training, of so many steps an epoch, as a context manager."""
    return TrainingProgress(config, steps=steps, done=done)


class CountingProgress(Bar):
    """A bar over a known number of items."""

    def __init__(self, name: str, total: int) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(name, total=total)

    def __call__(self) -> None:
        """One more is done."""
        self._bar.update(self._task, advance=1)


def counting_progress(name: str, total: int) -> CountingProgress:
    """Progress over `total` items, as a context manager that gives what to call for each."""
    return CountingProgress(name, total)
