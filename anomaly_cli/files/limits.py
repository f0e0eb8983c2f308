"""Bounds of what is read, set once by the command line."""

from pathlib import Path

from anomaly_cli.errors import DataError


class Limits:
    """Bounds that keep a small file from taking all memory."""

    max_pixels = 89_000_000  # of an image, about where Pillow warns of a bomb


def allow_pixels(count: int) -> None:
    """Set the largest number of pixels of an image that is decoded."""
    Limits.max_pixels = count


def bound_pixels(path: Path, width: int, height: int) -> None:
    """Refuse a picture of more pixels than are allowed, before any is decoded.

    Raises:
        DataError: it has more.
    """
    if width * height > Limits.max_pixels:
        raise DataError(
            f"cannot read {path}: it has {width} x {height} pixels; --max-pixels allows "
            f"{Limits.max_pixels:,}"
        )
