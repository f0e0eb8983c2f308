"""Learn what a normal product looks like and show where a new image departs from it."""

__version__ = "0.1.0"
