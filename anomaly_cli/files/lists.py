"""A text file with a path a line, accepted where a folder of images is."""

from collections.abc import Sequence
from pathlib import Path

from anomaly_cli.errors import DataError

LIST_SUFFIX = ".txt"


def is_file_list(path: Path) -> bool:
    """Whether the path is that of a text file."""
    return path.suffix.lower() == LIST_SUFFIX and path.is_file()


def read_file_list(path: Path) -> list[Path]:
    """Paths in their order; relative ones start at the list's folder. Empty lines and # are left.

    Raises:
        DataError: it cannot be read, names nothing, or names a file that is not there.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    named = [line.strip() for line in lines]
    paths = [path.parent / name for name in named if name and not name.startswith("#")]
    if not paths:
        raise DataError(f"{path} names no file; expected a path a line")
    for found in paths:
        if not found.is_file():
            raise DataError(f"{found} does not exist, but {path} names it")
    return paths


def expand_file_lists(inputs: Sequence[str]) -> list[str]:
    """What the user named, with the files of each list in its place.

    Raises:
        DataError: a list cannot be read.
    """
    return [
        str(path)
        for text in inputs
        for path in (read_file_list(Path(text)) if is_file_list(Path(text)) else [text])
    ]
