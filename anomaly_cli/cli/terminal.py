"""Output: results on stdout, everything else on stderr; plain lines without a terminal."""

import json
from typing import Any

from rich.console import Console
from rich.text import Text

from anomaly_cli.files.numbers import json_text, one_line

_WIDTH_WITHOUT_TERMINAL = 120  # columns, so that CI logs do not vary


class Settings:
    """Amount of output, set once by the command line."""

    is_quiet = False


def configure(*, quiet: bool) -> None:
    """Choose whether notes and progress are shown."""
    Settings.is_quiet = quiet


def be_quiet_unless(*, is_first: bool) -> None:
    """Show notes and progress of the first process of several alone."""
    Settings.is_quiet = Settings.is_quiet or not is_first


def make_console(*, stderr: bool) -> Console:
    """Make a console on the current stream; it has 120 columns without a terminal."""
    # A new one for each use, so that it writes to the current stream (tests replace streams).
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    return console


def note(message: str) -> None:
    """Print lines on stderr, unless --quiet is given. Paths and names are not markup."""
    if not Settings.is_quiet:
        shown = "\n".join(map(one_line, message.split("\n")))
        make_console(stderr=True).print(Text(shown), soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning in one line on stderr, also with --quiet."""
    make_console(stderr=True).print(Text(f"warning: {one_line(message)}", "yellow"), soft_wrap=True)


def error(message: str) -> None:
    """Print an error in one line on stderr, also with --quiet."""
    make_console(stderr=True).print(Text(f"error: {one_line(message)}", "bold red"), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a JSON document on stdout; undefined values have to be None, which becomes null."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    print(json_text(text))  # noqa: T201
