"""The manifest of a run: one line of JSON for each image, written as soon as the image is done."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from anomaly_cli.errors import OutputError
from anomaly_cli.files.atomic import write_text
from anomaly_cli.files.numbers import json_text
from anomaly_cli.files.parse import parse_json

Record = dict[str, Any]  # one line of the manifest


class Manifest:
    """Open manifest, to which lines are added; each is on its way to the disk when it is added."""

    def __init__(self, path: Path, stream: IO[str]) -> None:
        self._path = path
        self._stream = stream

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a line. Whatever kills the process afterwards, the line stays.

        Raises:
            OutputError: the disk is full.
        """
        try:
            self._stream.write(manifest_line(record))
            self._stream.flush()
        except OSError as error:
            raise _failure(self._path, error) from error


def manifest_line(record: Mapping[str, Any]) -> str:
    """Write a record as one line of JSON; names that are not UTF-8 are escaped."""
    return json_text(json.dumps(record, ensure_ascii=False, allow_nan=False)) + "\n"


@contextmanager
def open_manifest(path: Path, done: Sequence[Record] = ()) -> Iterator[Manifest]:
    """Begin a manifest with the lines of an earlier run, or without any.

    An old manifest stays until the new one holds these lines.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, "".join(map(manifest_line, done)))
    try:
        with path.open("a", encoding="utf-8", newline="\n") as stream:
            yield Manifest(path, stream)
            os.fsync(stream.fileno())
    except OSError as error:
        raise _failure(path, error) from error


def read_manifest(path: Path, *, heads: int = 0) -> list[Record]:
    """Read the whole lines of a manifest; a last line that was cut off is left out.

    The result is empty if there is no manifest.

    Args:
        path: the manifest.
        heads: number of first lines that tell of the run instead of an image.

    Raises:
        OutputError: a line is no record.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        records = [_parse_record(line) for line in lines[:-1]]
    except ValueError as error:
        raise OutputError(f"{path} is damaged; --overwrite starts anew") from error
    if not all(isinstance(record, dict) and "image" in record for record in records[heads:]):
        raise OutputError(f"{path} is no manifest of localize; --overwrite starts anew")
    return records


def read_head(path: Path) -> Record:
    """Read the first line of a manifest that begins with a line about its run.

    The result is empty if this line is not whole.

    Raises:
        OutputError: the line is no record.
    """
    with path.open(encoding="utf-8", errors="replace", newline="\n") as stream:
        line = stream.readline()
    try:
        head = _parse_record(line) if line.endswith("\n") else {}
    except ValueError as error:
        raise OutputError(f"{path} is damaged; --overwrite starts anew") from error
    return head if isinstance(head, dict) else {}


def _parse_record(line: str) -> Any:
    """Parse a line, which has to be one that could be written again.

    Raises:
        ValueError: it is no JSON, or holds NaN or a number that is too large.
    """
    record = parse_json(line)
    json.dumps(record, allow_nan=False)
    return record


def _failure(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}")
