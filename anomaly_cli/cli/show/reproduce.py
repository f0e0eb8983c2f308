"""Costs and results of `reproduce` as tables on stdout."""

from collections.abc import Sequence

from anomaly_cli.cli.progress import TerminalProgress
from anomaly_cli.cli.show.tables import print_table
from anomaly_cli.cli.terminal import note, warn
from anomaly_cli.commands.reproduce import Reproduced
from anomaly_cli.config.reproduce import REDUCED_MARK, ReproduceConfig
from anomaly_cli.files.numbers import duration_text, number
from anomaly_cli.paper.costs import Estimate, report_needs, total_text


def show_estimate(estimate: Estimate) -> None:
    """Print the estimated costs as a table on stdout, and the requirements on stderr."""
    report_needs(estimate, TerminalProgress())
    rows = [(row.stage, row.work, duration_text(row.seconds)) for row in estimate.rows]
    print_table(
        f"Estimated cost: {total_text(estimate)}", ["stage", "work", "about"], rows, texts=2
    )


def show_reproduction(config: ReproduceConfig, results: Sequence[Reproduced]) -> None:
    """Print the tables with their deviations on stdout, and the paths of all files on stderr."""
    for result in results:
        if result.table is not None:
            table = result.table
            rows = [[name, *map(number, values)] for name, values in table.rows.items()]
            print_table(table.title, [table.corner, *table.columns], rows)
        for path in result.files:
            note(f"{result.target}: {path}")
    if config.reduced:
        warn(f"{REDUCED_MARK}: run without --reduced for the paper's settings")
