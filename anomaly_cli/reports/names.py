"""Names of categories, defects and files come from the disk: each format escapes them its way."""

import re

_CONTROL = re.compile(
    "[^\\S ]|[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# Of GitHub's Markdown, with those of HTML; `_` inside a word means nothing and stays legible.
_MARKDOWN = re.compile(r"[\\`*\[\]<>&|~#]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|:(?=//)|(?<=www)\.")


def visible(name: str) -> str:
    """The name with every control, bidirectional or undecodable character as a Python escape.

    A line break would else end a table row, and one of the others cannot be written in XML.
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


def markdown(name: str) -> str:
    """The name as Markdown text: no character of it is markup, in a table cell or elsewhere."""
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", visible(name))


def json_text(text: str) -> str:
    """JSON text that can be written as UTF-8: names of files that are not UTF-8 are escaped."""
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def csv_cell(name: str) -> str:
    """The name as a cell; one that a spreadsheet would run as a formula begins with a quote."""
    text = "".join(c if not _SURROGATE.match(c) else f"\\u{ord(c):04x}" for c in name)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
