"""Templates of HTML pages: text is escaped and made visible, and an unknown name is an error."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from anomaly_cli.files.numbers import visible


def page_template(
    package: str, name: str, filters: Mapping[str, Callable[..., Any]]
) -> jinja2.Template:
    """Load a template of a package; all pages can include `report.css`.

    Args:
        package: name of the package, such as `anomaly_cli.evaluation.reports`.
        name: of the template's file.
        filters: functions that only this template uses, by name.
    """
    packages = (package, "anomaly_cli.files")
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(own, ".") for own in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Numbers and our own markup pass through unchanged; all other text is made visible.
    environment.finalize = lambda value: visible(value) if type(value) is str else value
    environment.filters |= filters
    return environment.get_template(name)


def picture_url(content: bytes, kind: str) -> str:
    """Convert an encoded picture, of a kind such as `png`, to a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
