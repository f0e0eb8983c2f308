"""Text files with one path a line, which can stand in for a folder of images."""

from collections.abc import Sequence
from pathlib import Path

from anomaly_cli.errors import DataError

LIST_SUFFIX = ".txt"


def is_file_list(path: Path) -> bool:
    """Return whether the path is that of a text file."""
    return path.suffix.lower() == LIST_SUFFIX and path.is_file()


def read_file_list(path: Path) -> list[Path]:
    """Read the paths of a list, in their order; relative ones start at the folder of the list.

    Empty lines and those that begin with # are ignored.

    Raises:
        DataError: the list cannot be read, is empty, or names a file that does not exist.
    """
    paths = [path.parent / name for name in read_lines(path)]
    for found in paths:
        if not _is_file(found):
            raise DataError(f"{found} does not exist, but {path} names it")
    return paths


def read_lines(path: Path) -> list[str]:
    """Read the names in a list.

    Raises:
        DataError: the list cannot be read, or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    named = [line.strip() for line in lines]
    names = [name for name in named if name and not name.startswith("#")]
    if not names:
        raise DataError(f"{path} names no file; expected a path a line")
    return names


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no disk takes
        return False


def expand_file_lists(inputs: Sequence[str]) -> list[str]:
    """Replace each list among the inputs by the files that it names.

    Raises:
        DataError: a list cannot be read, is empty, or names a file that does not exist.
    """
    return [
        str(path)
        for text in inputs
        for path in (read_file_list(Path(text)) if is_file_list(Path(text)) else [text])
    ]
