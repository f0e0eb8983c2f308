"""Bounds of what is read, set once by the command line. Loads nothing."""


class Limits:
    """Bounds that keep a small file from taking all memory."""

    max_pixels = 89_000_000  # of an image, about where Pillow warns of a bomb


def allow_pixels(count: int) -> None:
    """Set the largest number of pixels of an image that is decoded."""
    Limits.max_pixels = count
