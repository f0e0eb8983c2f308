"""Versions of the software that results depend on, to be stored with them.

The version of torch is best taken from torch itself, where it is loaded: it includes the build.
"""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import anomaly_cli


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """List the versions of anomaly-cli, Python, and those of `names` that are installed."""
    found = {"anomaly_cli": anomaly_cli.__version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
