"""Results of `download` as a table on stdout."""

from rich.text import Text

from anomaly_cli.cli.show.tables import print_table
from anomaly_cli.cli.terminal import make_console, note
from anomaly_cli.commands.download import Download, FetchedFile
from anomaly_cli.files.numbers import one_line, size_text


def show_downloads(downloads: tuple[Download, ...]) -> None:
    """Print the place of each download, its check, the SHA-256 of files, and the next command."""
    print_table(
        "Downloads",
        ["name", "place", "checked", "fetched"],
        [
            [download.name, str(download.path), *_fetched_cells(download.files)]
            for download in downloads
        ],
        texts=3,
    )
    for download in downloads:
        for file in download.files:  # in the format of sha256sum
            line = Text(f"{file.sha256}  {one_line(file.name)}")
            make_console(stderr=False).print(line, soft_wrap=True)
    for download in downloads:
        if download.next_command:
            note(f"next: {download.next_command}")


def _fetched_cells(files: tuple[FetchedFile, ...]) -> list[str]:
    if not files:
        return ["already there", "-"]
    checked = files[0].checked
    size = sum(file.size for file in files)
    return [f"{checked} matches" if checked else "not checked", size_text(size)]
