"""Configuration files that come with the package, by name; `--preset` reads them."""

from pathlib import Path
from typing import Any

from anomaly_cli.errors import ConfigError

_SUFFIX = ".toml"
_FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """List the names of all presets, sorted."""
    return sorted(file.stem for file in _FOLDER.glob(f"*{_SUFFIX}"))


def preset_text(name: str) -> str:
    """Read the text of a preset, comments included.

    Raises:
        ConfigError: there is no such preset.
    """
    names = preset_names()
    if name not in names:
        from difflib import get_close_matches  # noqa: PLC0415 - `--help` needs none

        close = get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ConfigError(f"unknown preset {name}; {hint}known: {', '.join(names)}")
    return (_FOLDER / f"{name}{_SUFFIX}").read_text(encoding="utf-8")


def preset_summary(name: str) -> str:
    """Read the summary of a preset, which is the comment in its first line."""
    return preset_text(name).split("\n", 1)[0].removeprefix("# ")


def read_preset(name: str) -> dict[str, Any]:
    """Read the settings of a preset.

    Raises:
        ConfigError: there is no such preset.
    """
    import tomllib  # noqa: PLC0415 - `--help` needs none

    return tomllib.loads(preset_text(name))
