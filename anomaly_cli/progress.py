"""Interface to report the progress of work, by messages and bars. Prints nothing by itself.

Functions that take long have an argument `progress`. The command line passes one that writes to
stderr. From Python nothing is shown unless a `Progress` is given.
"""

from types import TracebackType
from typing import Literal, Protocol, Self

Unit = Literal["items", "steps", "share", "bytes"]  # of a bar


class Bar(Protocol):
    """Progress of one task, as a context manager."""

    @property
    def is_shown(self) -> bool:
        """Whether the bar is visible; if not, occasional messages are useful."""

    @property
    def seconds_left(self) -> float | None:
        """Estimated time to the end in seconds; None if it is not known."""

    def __enter__(self) -> Self:
        """Show the bar."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""

    def advance(self, amount: float = 1.0, *, title: str = "", status: str = "") -> None:
        """Add to the amount that is done; a title or status replaces the previous one."""

    def reach(self, done: float, total: float | None) -> None:
        """Set the amount that is done, and the total, which may be unknown."""


class Progress(Protocol):
    """Receiver of messages and bars."""

    def note(self, message: str) -> None:
        """Report a fact of interest."""

    def warn(self, message: str) -> None:
        """Report a possible problem."""

    def error(self, message: str) -> None:
        """Report a failure after which the remaining work continues."""

    def bar(
        self, title: str, *, total: float | None = None, done: float = 0.0, unit: Unit = "items"
    ) -> Bar:
        """Make a bar for a task of `total` units, of which `done` are already done."""


class _SilentBar:
    """Bar that shows nothing."""

    is_shown = False
    seconds_left = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def advance(self, amount: float = 1.0, *, title: str = "", status: str = "") -> None:
        pass

    def reach(self, done: float, total: float | None) -> None:
        pass


class _Silent:
    """Receiver that shows nothing."""

    def note(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

    def error(self, message: str) -> None:
        pass

    def bar(
        self,
        title: str,  # noqa: ARG002 - of the protocol
        *,
        total: float | None = None,  # noqa: ARG002
        done: float = 0.0,  # noqa: ARG002
        unit: Unit = "items",  # noqa: ARG002
    ) -> Bar:
        return _SilentBar()


SILENT: Progress = _Silent()
