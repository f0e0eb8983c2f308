"""What a reproduction costs, and its tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from anomaly_cli.config.reproduce import REDUCED_MARK
from anomaly_cli.console.streams import note, warn
from anomaly_cli.console.tables import print_table
from anomaly_cli.files.numbers import number
from anomaly_cli.reproduction.costs import Estimate, duration_text

if TYPE_CHECKING:
    from anomaly_cli.commands.reproduce import Reproduced
    from anomaly_cli.config.reproduce import ReproduceConfig

_LEFT_OUT = "calibration, scoring, pictures and reports are not in it"


def show_estimate(estimate: Estimate, *, is_result: bool = False) -> None:
    """Needs and costs, as a table on stdout if they are the result, else as lines on stderr."""
    if estimate.reduction:
        warn(f"{REDUCED_MARK}: {estimate.reduction}")
    for target, needs in estimate.needs.items():
        note(f"{target} needs {needs}")
    total = f"about {duration_text(estimate.seconds)} on this machine ({_LEFT_OUT})"
    rows = [(row.stage, row.work, duration_text(row.seconds)) for row in estimate.rows]
    if is_result:
        title = f"Estimated cost: {total}"
        print_table(title, ["stage", "work", "about"], rows, texts=2)
        return
    for stage, work, seconds in rows:
        note(f"  {stage}: {work}, about {seconds}")
    note(f"estimated cost: {total}")


def show_reproduction(config: "ReproduceConfig", results: "Sequence[Reproduced]") -> None:
    """The tables with their deviations, and where everything lies."""
    for result in results:
        if result.table is not None:
            table = result.table
            rows = [[name, *map(number, values)] for name, values in table.rows.items()]
            print_table(table.title, [table.corner, *table.columns], rows)
        for path in result.files:
            note(f"{result.target}: {path}")
    if config.reduced:
        warn(f"{REDUCED_MARK}: run without --reduced for the paper's settings")
