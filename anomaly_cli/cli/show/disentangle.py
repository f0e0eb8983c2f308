"""Results of `disentangle` as tables on stdout."""

from anomaly_cli.cli.show.tables import print_table
from anomaly_cli.cli.terminal import note
from anomaly_cli.commands.disentangle import DisentangleResult
from anomaly_cli.disentangle.scoring import TITLES
from anomaly_cli.files.numbers import difference, interval_text, number


def show_disentanglement(result: DisentangleResult) -> None:
    """Print the scores of one run, or the paired differences of a comparison."""
    if result.differences:
        _show_differences(result)
    else:
        run = result.runs[0]
        rows = [[TITLES[name], number(value)] for name, value in run.scores._asdict().items()]
        print_table(run.name, ["score, in [0, 1]", ""], rows)
    note(f"written to {result.output} (full report: report.html)")


def _show_differences(result: DisentangleResult) -> None:
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
