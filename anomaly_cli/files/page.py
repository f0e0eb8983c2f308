"""How every HTML page is made: all names escaped and visible, an unknown one an error."""

from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from anomaly_cli.files.numbers import visible


def page_template(name: str, filters: Mapping[str, Callable[..., Any]]) -> jinja2.Template:
    """A template of this package, with its own filters. Every name in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("anomaly_cli.reports", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Numbers and markup of our own pass through unchanged; all else that is text is made visible.
    environment.finalize = lambda value: visible(value) if type(value) is str else value
    environment.filters |= filters
    return environment.get_template(name)
