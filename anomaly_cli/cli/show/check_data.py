"""Results of `check-data` on stdout: a table of the counts, and the findings below it."""

from collections import Counter

from rich.table import Table
from rich.text import Text

from anomaly_cli.cli.terminal import make_console
from anomaly_cli.commands.check_data import Counts, DataReport
from anomaly_cli.data.checks.findings import Finding
from anomaly_cli.files.numbers import one_line

STYLES = {  # worst first
    "error": "bold red",
    "warning": "yellow",
    "note": "dim",
}


def show_data_report(report: DataReport, *, places: int = 3) -> None:
    """Print a table of the counts, the findings with the first `places` of each, and a summary."""
    console = make_console(stderr=False)
    console.print(_counts_table(report))
    for finding in report.findings:
        console.print(_finding_text(report, finding, places), soft_wrap=True)
    console.print(Text(_summary(report, places)), soft_wrap=True)


def _summary(report: DataReport, places: int) -> str:
    if not report.findings:
        return "No problem was found."
    counts = Counter(str(finding.rule.severity) for finding in report.findings)
    counted = [f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}" for name in STYLES]
    is_folded = any(len(finding.places) > places for finding in report.findings)
    return f"{', '.join(counted)}.{' --json lists every file.' if is_folded else ''}"


def _counts_table(report: DataReport) -> Table:
    title = Text(f"Data set {one_line(str(report.data))}")
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in ("category", "split", "defect type"):
        table.add_column(column, overflow="fold")
    for column in ("images", "masks", "width x height", "colour"):
        table.add_column(column, justify="right")
    previous = None
    for row in report.counts:
        if previous not in {None, row.category}:
            table.add_section()
        cells = _count_cells(row)
        table.add_row(*(Text(one_line(cell)) for cell in cells))
        previous = row.category
    return table


def _count_cells(row: Counts) -> list[str]:
    sizes = dict.fromkeys(f"{s[0]} x {s[1]}" for s in (row.smallest, row.largest) if s)
    colours = [name for name in ("grey", "colour") if getattr(row, name)]
    return [
        row.category,
        row.split,
        row.defect_type,
        str(row.images),
        "-" if row.defect_type == "good" and not row.masks else str(row.masks),
        " to ".join(sizes) or "-",
        "mixed" if len(colours) > 1 else "".join(colours) or "-",
    ]


def _finding_text(report: DataReport, finding: Finding, places: int) -> Text:
    """Describe a finding: the rule, its places, and the remedy.

    Each has its own line, so that paths can be copied.
    """
    rule = finding.rule
    lines = [f"{len(finding.places)} x {rule.what}"]
    for place in finding.places[:places]:
        names = " and ".join(one_line(report.name(path)) for path in place.paths)
        lines.append(names + (f" ({one_line(place.detail)})" if place.detail else ""))
    if len(finding.places) > places:
        lines.append(f"and {len(finding.places) - places} more")
    lines.append(f"right: {rule.right}")
    return Text.assemble((rule.severity, STYLES[rule.severity]), ": ", "\n    ".join(lines))
