"""Numbers as text, the same in every format that people read. Loads no numpy."""

import math
import re
from collections.abc import Callable

Ends = tuple[float, float]


def number(value: float | None, digits: int = 3) -> str:
    """A metric as text; n/a where it is undefined."""
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def loss_text(loss: float) -> str:
    """Of a held-out loss: some thousand nats, or a number around 1 with guidance."""
    return f"{loss:.3f}" if loss < 100 else f"{loss:,.0f}"


def interval_text(interval: Ends | None) -> str:
    """Such as "0.790 to 0.830"; empty where it is undefined."""
    if interval is None or not all(map(math.isfinite, interval)):
        return ""
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def with_interval(value: float, interval: Ends | None) -> str:
    """Such as "0.812 (0.790 to 0.830)"."""
    text = interval_text(interval)
    return f"{number(value)} ({text})" if text else number(value)


def range_text(ends: Ends, *, joint: str = " to ") -> str:
    """Such as "0.81190 to 0.81205", never narrower than the range; one number for a point."""
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high)):
        return "n/a"
    return f"{low:.5f}" if low == high else f"{at_least(low)}{joint}{at_most(high)}"


def plus_minus(bound: float) -> str:
    """Such as "± 0.00007", rounded up; empty where the value is exact or undefined."""
    return f"± {at_most(bound)}" if bound > 0 else ""


def at_least(value: float) -> str:
    """Five digits, rounded down."""
    return _rounded(value, math.floor)


def at_most(value: float) -> str:
    """Five digits, rounded up."""
    return _rounded(value, math.ceil)


def _rounded(value: float, towards: Callable[[float], int]) -> str:
    return f"{towards(value * 1e5) / 1e5:.5f}"


def share_text(share: float) -> str:
    """A share of pixels in percent; n/a where it is undefined."""
    return f"{share:.2%}" if math.isfinite(share) else "n/a"


def part_text(part: int | None, whole: int | None) -> str:
    """Such as "3 of 8"; n/a where either is not known."""
    return "n/a" if part is None or whole is None else f"{part} of {whole}"


def difference(value: float, reference: float) -> str:
    """With its sign; n/a where undefined."""
    return f"{value - reference:+.3f}" if math.isfinite(value - reference) else "n/a"


def size_text(size: float) -> str:
    """Bytes in the largest fitting power of 1000, such as "5.3 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def rate_range_text(low: float, high: float) -> str:
    """Shares of images, such as "0.3% to 13%"."""
    low_text, high_text = (f"{end:.1%}" if end < 0.0995 else f"{end:.0%}" for end in (low, high))
    return f"{low_text} to {high_text}"


def one_line(message: str) -> str:
    """The message with every control character escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


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
