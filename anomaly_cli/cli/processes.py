"""Run a command alone, or in all processes that a launcher such as torchrun started."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from anomaly_cli.cli import terminal

if TYPE_CHECKING:
    from anomaly_cli.detector.team import Team

Result = TypeVar("Result")


def run_in_processes(
    device: str, alone: Callable[[], Result], together: "Callable[[Team], Result]"
) -> Result | None:
    """Run a command; the first process alone shows notes, progress and the result.

    Args:
        device: value of `--device`.
        alone: runs the command without a launcher.
        together: runs the part of one process.

    Returns:
        The result; None in all processes but the first.
    """
    from anomaly_cli.detector.team import join_team

    with join_team(device) as team:
        if team is None:
            return alone()
        terminal.be_quiet_unless(is_first=team.rank == 0)
        result = together(team)
    return result if team.rank == 0 else None
