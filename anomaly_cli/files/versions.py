"""Versions of what results depend on, for files that keep them.

That of torch is best taken from torch itself, where it is loaded: it names the build as well.
"""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import anomaly_cli


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Of anomaly-cli, Python, and those distributions of `names` that are installed."""
    found = {"anomaly_cli": anomaly_cli.__version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
