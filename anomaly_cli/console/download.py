"""Progress over bytes, and what was downloaded as a table."""

import time
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from anomaly_cli.console.progress import Bar
from anomaly_cli.console.streams import make_console, note
from anomaly_cli.console.tables import print_table
from anomaly_cli.files.numbers import one_line, size_text

if TYPE_CHECKING:
    from anomaly_cli.commands.download import Download, FetchedFile

_SECONDS = 10.0  # between two lines off a terminal


class BytesProgress(Bar):
    """A bar over bytes on a terminal; elsewhere a line now and then."""

    def __init__(self, name: str) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        self._name = name
        self._next_note = time.monotonic() + _SECONDS
        self._task = self._bar.add_task(name, total=None)

    def update(self, received: int, total: int | None, message: str = "") -> None:
        """So many of `total` bytes are done; a message is shown above the bar."""
        self._bar.update(self._task, completed=received, total=total)
        if message:
            note(one_line(message))  # a server may have written a part of it
        if self._bar.disable and time.monotonic() >= self._next_note:
            self._next_note = time.monotonic() + _SECONDS
            whole = "" if total is None else f" of {size_text(total)}"
            note(f"{self._name}: {size_text(received)}{whole}")


def bytes_progress(name: str) -> BytesProgress:
    """Progress of one file, as a context manager."""
    return BytesProgress(name)


def show_downloads(downloads: "tuple[Download, ...]") -> None:
    """Where everything lies, how it was checked, the SHA-256 of what came, and what is next."""
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
        for file in download.files:  # as sha256sum writes and reads it
            line = Text(f"{file.sha256}  {one_line(file.name)}")
            make_console(stderr=False).print(line, soft_wrap=True)
    for download in downloads:
        if download.next_command:
            note(f"next: {download.next_command}")


def _fetched_cells(files: "tuple[FetchedFile, ...]") -> list[str]:
    if not files:
        return ["was there already", "-"]
    checked = files[0].checked
    size = sum(file.size for file in files)
    return [f"{checked} is right" if checked else "not checked", size_text(size)]
