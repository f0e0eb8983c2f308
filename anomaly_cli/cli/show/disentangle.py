"""Costs and results of `disentangle` as tables on stdout."""

from anomaly_cli.cli.show.tables import print_table
from anomaly_cli.cli.terminal import note
from anomaly_cli.commands.disentangle import DisentangleResult
from anomaly_cli.disentangle.comparison import Comparison, score_table
from anomaly_cli.disentangle.costs import ComparisonCost
from anomaly_cli.disentangle.report import TITLE
from anomaly_cli.disentangle.scoring import TITLES
from anomaly_cli.files.numbers import difference, duration_text, interval_text, number


def show_costs(cost: ComparisonCost) -> None:
    """Print the estimated costs as a table."""
    rows = [(row.entry.label, row.work, duration_text(row.seconds)) for row in cost.rows]
    print_table(f"Estimated cost: {cost.total}", ["entry", "work", "about"], rows, texts=2)


def show_disentanglement(result: DisentangleResult) -> None:
    """Print the scores of one run, or the entries of a comparison."""
    if result.comparison:
        table = score_table(result.comparison, TITLE)
        rows = [[name, *map(number, values)] for name, values in table.rows.items()]
        print_table(table.title, ["entry", *table.columns], rows)
        if len(result.comparison.compared) == 1:
            _show_differences(result.comparison)
    else:
        run = result.runs[0]
        rows = [[TITLES[name], number(value)] for name, value in run.scores._asdict().items()]
        print_table(run.name, ["score, in [0, 1]", ""], rows)
    note(f"written to {result.output} (full report: report.html)")


def _show_differences(comparison: Comparison) -> None:
    """Print the paired differences of all scores of two entries."""
    (own,) = comparison.compared
    first, second = comparison.reference.entry.label, own.entry.label
    print_table(
        f"{second} minus {first}, {len(own.seeds)} paired seeds, 95% Student t interval",
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
            for row in own.differences
        ],
    )
