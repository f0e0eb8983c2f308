"""A kind of file: how damaged ones are drawn, and how the tool reads them."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple


class DamagedFile(NamedTuple):
    """Content and suffix of a file that may be damaged."""

    content: bytes
    suffix: str  # with its dot


class Target(NamedTuple):
    """A kind of file that the tool reads."""

    draw: Callable[[Random], DamagedFile]
    read: Callable[[Path], object]  # raises errors of `anomaly_cli.errors` alone


class BrokenRuleError(Exception):
    """A file was read, and what came out contradicts itself."""
