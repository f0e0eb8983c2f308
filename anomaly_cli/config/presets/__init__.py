"""Configuration files that come with the package, by name; `--preset` reads them."""

import tomllib
from difflib import get_close_matches
from importlib import resources
from typing import Any

from anomaly_cli.errors import ConfigError

_SUFFIX = ".toml"


def preset_names() -> list[str]:
    """All presets, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX))


def preset_text(name: str) -> str:
    """A preset as it is written, comments included.

    Raises:
        ConfigError: there is no such preset.
    """
    names = preset_names()
    if name not in names:
        close = get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ConfigError(f"no preset {name}; {hint}known: {', '.join(names)}")
    return resources.files(__name__).joinpath(name + _SUFFIX).read_text(encoding="utf-8")


def preset_summary(name: str) -> str:
    """The first line of a preset, which is a comment that says what it is."""
    return preset_text(name).split("\n", 1)[0].removeprefix("# ")


def read_preset(name: str) -> dict[str, Any]:
    """The document of a preset.

    Raises:
        ConfigError: there is no such preset.
    """
    return tomllib.loads(preset_text(name))
