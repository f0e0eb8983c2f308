"""Progress on stderr: bars on a terminal, occasional lines otherwise."""

import time
from types import TracebackType
from typing import Self

import rich.progress
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from anomaly_cli.cli import terminal
from anomaly_cli.files.numbers import size_text
from anomaly_cli.progress import Bar, Unit

SECONDS = 10.0  # between two lines of a download, without a terminal


def _columns(unit: Unit) -> list[ProgressColumn]:
    """List the columns that are shown with a bar."""
    title = TextColumn("{task.description}", markup=False)
    status = TextColumn("{task.fields[status]}", markup=False)
    left: list[ProgressColumn] = [TextColumn("ETA"), TimeRemainingColumn()]
    match unit:
        case "items":
            return [title, BarColumn(), MofNCompleteColumn(), *left]
        case "steps":
            return [title, BarColumn(), MofNCompleteColumn(), *left, status]
        case "bytes":
            return [title, BarColumn(), DownloadColumn(), TransferSpeedColumn(), *left]
        case "share":
            return [title, BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), *left, status]


class TerminalBar:
    """Bar on a terminal, as a context manager. Without a terminal, it reports bytes in lines."""

    def __init__(self, title: str, *, total: float | None, done: float, unit: Unit) -> None:
        console = terminal.make_console(stderr=True)
        self.is_shown = console.is_terminal and not terminal.Settings.is_quiet
        self._bar = rich.progress.Progress(
            *_columns(unit), console=console, disable=not self.is_shown, transient=True
        )
        self._title = title
        self._next_line = time.monotonic() + SECONDS
        self._task = self._bar.add_task(title, total=total, status="")
        if done:
            self._bar.advance(self._task, done)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time to the end in seconds; None if it is not known."""
        return self._bar.tasks[self._task].time_remaining

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

    def advance(self, amount: float = 1.0, *, title: str = "", status: str = "") -> None:
        """Add to the amount that is done; a title or status replaces the previous one."""
        self._bar.update(self._task, advance=amount, description=title or None)
        if status:
            self._bar.update(self._task, status=status)

    def reach(self, done: float, total: float | None) -> None:
        """Set the bytes that are done, and the total; print occasional lines without a terminal."""
        self._bar.update(self._task, completed=done, total=total)
        if not self.is_shown and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS
            whole = "" if total is None else f" of {size_text(int(total))}"
            terminal.note(f"{self._title}: {size_text(int(done))}{whole}")


class TerminalProgress:
    """Messages and bars on stderr."""

    def note(self, message: str) -> None:
        """Print a line, unless --quiet is given."""
        terminal.note(message)

    def warn(self, message: str) -> None:
        """Print a warning."""
        terminal.warn(message)

    def error(self, message: str) -> None:
        """Print an error."""
        terminal.error(message)

    def bar(
        self, title: str, *, total: float | None = None, done: float = 0.0, unit: Unit = "items"
    ) -> Bar:
        """Make a bar for a task of `total` units, of which `done` are already done."""
        return TerminalBar(title, total=total, done=done, unit=unit)
