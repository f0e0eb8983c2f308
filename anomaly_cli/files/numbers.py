"""Text of numbers and names, the same in all tables and reports. Loads no numpy."""

import math
import re
from collections.abc import Callable

Ends = tuple[float, float]


def number(value: float | None, digits: int = 3) -> str:
    """Format a metric; n/a if it is undefined."""
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def loss_text(loss: float) -> str:
    """Format a loss: thousands of nats, or a number around 1 with guidance, or a small error."""
    if loss < 0.1:
        return f"{loss:.3g}"
    return f"{loss:.3f}" if loss < 100 else f"{loss:,.0f}"


def interval_text(interval: Ends | None) -> str:
    """Format an interval, such as "0.790 to 0.830"; empty if it is undefined."""
    if interval is None or not all(map(math.isfinite, interval)):
        return ""
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def with_interval(value: float, interval: Ends | None) -> str:
    """Format a value and its interval, such as "0.812 (0.790 to 0.830)"."""
    text = interval_text(interval)
    return f"{number(value)} ({text})" if text else number(value)


def range_text(ends: Ends, *, joint: str = " to ") -> str:
    """Format a range, rounded outward, such as "0.81190 to 0.81205"; n/a if it is undefined.

    A range of no width is one number.
    """
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high)):
        return "n/a"
    return f"{low:.5f}" if low == high else f"{at_least(low)}{joint}{at_most(high)}"


def plus_minus(bound: float) -> str:
    """Format a bound, rounded up, such as "± 0.00007"; empty if the value is exact or undefined."""
    return f"± {at_most(bound)}" if bound > 0 else ""


def at_least(value: float) -> str:
    """Format a number with five digits, rounded down."""
    return _rounded(value, math.floor)


def at_most(value: float) -> str:
    """Format a number with five digits, rounded up."""
    return _rounded(value, math.ceil)


def _rounded(value: float, towards: Callable[[float], int]) -> str:
    return f"{towards(value * 1e5) / 1e5:.5f}"


def share_text(share: float) -> str:
    """Format a share of pixels in percent; n/a if it is undefined."""
    return f"{share:.2%}" if math.isfinite(share) else "n/a"


def part_text(part: int | None, whole: int | None) -> str:
    """Format a part of a whole, such as "3 of 8"; n/a if either is not known."""
    return "n/a" if part is None or whole is None else f"{part} of {whole}"


def difference(value: float, reference: float) -> str:
    """Format the difference of two metrics, with its sign; n/a if it is undefined."""
    return f"{value - reference:+.3f}" if math.isfinite(value - reference) else "n/a"


def size_text(size: float) -> str:
    """Format a number of bytes in the largest fitting power of 1000, such as "5.3 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def duration_text(seconds: float) -> str:
    """Format a duration with two digits, such as "45 s", "2.5 min" or "31 h"."""
    if not math.isfinite(seconds):
        return "n/a"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{_two_digits(seconds / unit)} {name}"
    return f"{_two_digits(seconds / 86400)} days"


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def rate_range_text(low: float, high: float) -> str:
    """Format a range of shares of images, such as "0.3% to 13%"."""
    low_text, high_text = (f"{end:.1%}" if end < 0.0995 else f"{end:.0%}" for end in (low, high))
    return f"{low_text} to {high_text}"


def one_line(message: str) -> str:
    """Escape every control character of a message."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


# Patterns are compiled when they are first used: `--help` needs none of them.
_CONTROL = "[^\\S ]|[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
_SURROGATE = "[\ud800-\udfff]"
# Markup of GitHub's Markdown and of HTML. `_` inside a word is no markup, and stays legible.
_MARKDOWN = r"[\\`*\[\]<>&|~#]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|:(?=//)|(?<=www)\."


def visible(name: str) -> str:
    """Replace control, bidirectional and undecodable characters of a name by Python escapes.

    A line break would end a table row, and some of the others cannot be written in XML.
    """
    return re.sub(_CONTROL, lambda match: match[0].encode("unicode_escape").decode(), name)


def markdown(name: str) -> str:
    """Escape a name as Markdown text, so that no character is markup, also in a table cell."""
    return re.sub(_MARKDOWN, lambda match: f"&#{ord(match[0])};", visible(name))


def json_text(text: str) -> str:
    """Escape JSON text so that it can be written as UTF-8, even with file names that are not."""
    return re.sub(_SURROGATE, lambda match: f"\\u{ord(match[0]):04x}", text)


def csv_cell(name: str) -> str:
    """Format a name as a cell; a quote is put before one that a spreadsheet runs as a formula."""
    text = "".join(c if not re.match(_SURROGATE, c) else f"\\u{ord(c):04x}" for c in name)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
