"""Settings as TOML: read what a user wrote, write what a run came to. Loads no torch."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import anomaly_cli
from anomaly_cli.errors import ConfigError
from anomaly_cli.files.atomic import SETTINGS_FILE, SETTINGS_MARK, write_text
from anomaly_cli.files.numbers import one_line


class Setting(NamedTuple):
    """The value that an option came to."""

    key: str  # the option without dashes
    value: Any  # text, number, bool or a sequence of these; None: not set
    source: str  # flag, environment NAME, config FILE, preset NAME, default


@dataclass(frozen=True, kw_only=True)
class ResolvedSettings:
    """All settings of one run of a command; `--config` reads back what `to_toml` says."""

    command: str
    rows: tuple[Setting, ...]

    def of_category(self, category: str) -> "ResolvedSettings":
        """The same settings for one category of several."""
        rows = [
            Setting(row.key, category, f"one of {row.value}, {row.source}")
            if row.key == "category" and row.value != category
            else row
            for row in self.rows
        ]
        return ResolvedSettings(command=self.command, rows=tuple(rows))

    def to_toml(self) -> str:
        """A table of the command, each value with its source as a comment."""
        head = (
            f"{SETTINGS_MARK} {anomaly_cli.__version__}: settings of a run, and where each comes "
            f"from. `anomaly-cli {self.command} --config` reads them back."
        )
        return "\n".join([head, "", f"[{self.command}]", *map(_line, self.rows), ""])


def write_settings(folder: Path, resolved: ResolvedSettings | None) -> None:
    """Write SETTINGS_FILE into a folder of results; a caller from Python may have none.

    Raises:
        OutputError: the file cannot be written.
    """
    if resolved is not None:
        write_text(folder / SETTINGS_FILE, resolved.to_toml())


def read_toml(path: Path) -> dict[str, Any]:
    """The document of a configuration file.

    Raises:
        ConfigError: it cannot be read, or is not TOML; with the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read --config {path}: {error.strerror or error}") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, or a number of any length
        raise ConfigError(f"--config {path} is not TOML: {error}") from error


def toml_value(value: Any) -> str:
    """A value as TOML writes it. No library writes comments too (docs/decisions/0001)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    # A JSON string is a TOML string but for DEL, which TOML wants escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _line(row: Setting) -> str:
    if row.value is None:
        return f"# {row.key} is not set"
    text = toml_value(row.value)
    if not _is_unicode(text):  # a file name of bytes that are no UTF-8: TOML has no such text
        return f"# {row.key} cannot be written in TOML: {one_line(text)}  # {one_line(row.source)}"
    return f"{row.key} = {text}  # {one_line(row.source)}"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
