"""stdout carries results, stderr everything else; both as plain lines off a terminal."""

import json
from typing import Any

from rich.console import Console
from rich.text import Text

from anomaly_cli.files.numbers import json_text, one_line

_WIDTH_WITHOUT_TERMINAL = 120  # stable in CI logs


class Settings:
    """How much to say; set once by the command line."""

    is_quiet = False


def configure(*, quiet: bool) -> None:
    """Choose whether notes and progress are shown at all."""
    Settings.is_quiet = quiet


def make_console(*, stderr: bool) -> Console:
    """A console on the current stream; 120 columns wide off a terminal."""
    # Made for each use, so that it writes to the stream that is current (tests swap them).
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    return console


def note(message: str) -> None:
    """One line of progress on stderr. Paths and names are printed as they are."""
    if not Settings.is_quiet:
        make_console(stderr=True).print(Text(message), soft_wrap=True)


def warn(message: str) -> None:
    """One warning on stderr, also with --quiet."""
    make_console(stderr=True).print(Text(f"warning: {one_line(message)}", "yellow"), soft_wrap=True)


def error(message: str) -> None:
    """One error on stderr, also with --quiet."""
    make_console(stderr=True).print(Text(f"error: {one_line(message)}", "bold red"), soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout; what is undefined is null."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    print(json_text(text))  # noqa: T201
