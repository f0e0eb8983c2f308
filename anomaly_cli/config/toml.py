"""Settings as TOML: read from files of the user, and written for each run. Loads no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import anomaly_cli
from anomaly_cli.errors import ConfigError
from anomaly_cli.files.atomic import SETTINGS_FILE, SETTINGS_MARK, write_text
from anomaly_cli.files.numbers import one_line
from anomaly_cli.files.parse import parse_toml


class Setting(NamedTuple):
    """The final value of an option."""

    key: str  # the option without dashes
    value: Any  # text, number, bool or a sequence of these; None: not set
    source: str  # flag, environment NAME, config FILE, preset NAME, default


@dataclass(frozen=True, kw_only=True)
class ResolvedSettings:
    """All settings of one run of a command; `--config` reads back the text of `to_toml`."""

    command: str
    rows: tuple[Setting, ...]

    def of_category(self, category: str) -> "ResolvedSettings":
        """Copy the settings for one of several categories."""
        rows = [
            Setting(row.key, category, f"one of {row.value}, {row.source}")
            if row.key == "category" and row.value != category
            else row
            for row in self.rows
        ]
        return ResolvedSettings(command=self.command, rows=tuple(rows))

    def to_toml(self) -> str:
        """Write a table of the command, each value with its source as a comment."""
        head = (
            f"{SETTINGS_MARK} {anomaly_cli.__version__}: settings of a run, and where each comes "
            f"from. `anomaly-cli {self.command} --config` reads them back."
        )
        return "\n".join([head, "", f"[{self.command}]", *map(_line, self.rows), ""])


def write_settings(folder: Path, resolved: ResolvedSettings | None) -> None:
    """Write SETTINGS_FILE into a folder of results.

    Args:
        folder: the folder.
        resolved: the settings; None, from a caller in Python that has none, writes nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    if resolved is not None:
        write_text(folder / SETTINGS_FILE, resolved.to_toml())


def read_settings(folder: Path, command: str) -> dict[str, Any]:
    """Read the settings of a command from SETTINGS_FILE in a folder; empty if there are none."""
    try:
        return dict(read_toml(folder / SETTINGS_FILE).get(command, {}))
    except ConfigError:
        return {}


def settings_of(command: str, values: Mapping[str, Any], *, source: str) -> ResolvedSettings:
    """Describe settings that come from one place, such as a call from Python."""
    rows = [Setting(key, _plain(value), source) for key, value in sorted(values.items())]
    return ResolvedSettings(command=command, rows=tuple(rows))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        ConfigError: the file cannot be read, or is not TOML; the message names the line.
    """
    try:
        return parse_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read --config {path}: {error.strerror or error}") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, or a number of any length
        raise ConfigError(f"--config {path} is not TOML: {error}") from error


def toml_value(value: Any) -> str:
    """Write a value as TOML.

    No library does it here, because none writes comments too (docs/decisions/0001).
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    # A JSON string is a TOML string but for DEL, which TOML wants escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    """Convert a setting to a value that TOML has."""
    is_plain = value is None or type(value) in {bool, int, float, str, list, tuple}
    return value if is_plain else str(value)


def _line(row: Setting) -> str:
    if row.value is None:
        return f"# {row.key} is not set"
    text = toml_value(row.value)
    if not _is_unicode(text):  # a file name whose bytes are no UTF-8 is no text in TOML
        return f"# {row.key} cannot be written in TOML: {one_line(text)}  # {one_line(row.source)}"
    return f"{row.key} = {text}  # {one_line(row.source)}"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
