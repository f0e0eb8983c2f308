"""Parsing of JSON and TOML from files that nobody has vouched for."""

import json
import tomllib
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def parse_json(text: str) -> Any:
    """Parse a JSON document.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    return _parse(json.loads, text)


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    Raises:
        ValueError: it is no TOML, or nested too deeply.
    """
    return _parse(tomllib.loads, text)


def _parse(parser: Callable[[str], T], text: str) -> T:
    try:
        return parser(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
