"""Open the folder that a run writes to, wherever it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomaly_cli.files.address import Address
from anomaly_cli.files.destination import Destination


@contextmanager
def open_destination(output: Path) -> Iterator[Destination]:
    """Open an output folder; a working folder of an address is removed at the end.

    Raises:
        OutputError: the bucket does not exist.
        StorageError: the storage cannot be used.
    """
    if not isinstance(output, Address):
        yield Destination(output)
        return
    from anomaly_cli.files.remote_output import open_bucket  # noqa: PLC0415 - needs an extra

    with open_bucket(output) as destination:
        yield destination
