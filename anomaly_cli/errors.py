"""Errors that a user can act on. Each has an exit code, which only `cli` uses.

Python code catches them by class. Errors in arguments are also a ValueError or a TypeError.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class AnomalyCliError(Exception):
    """Base of the errors that end a command with one line on stderr and no traceback."""

    exit_code = 1


class ConfigError(AnomalyCliError, ValueError):
    """Option, setting or argument that is out of range, unknown, or contradicts another."""

    exit_code = 2


class ConfigTypeError(ConfigError, TypeError):
    """Argument of a type that the function does not accept."""


class DataError(AnomalyCliError):
    """Data set or image that is missing, unreadable or inconsistent."""

    exit_code = 3


class ImageValueError(DataError, ValueError):
    """Array that is no image: its shape is wrong, or its values are out of range."""


class ImageTypeError(DataError, TypeError):
    """Array, or other object, of a type that images do not have."""


class CheckpointError(AnomalyCliError):
    """Model file or training state that is missing, damaged, or of another format."""

    exit_code = 4


class OutputError(AnomalyCliError):
    """Result that cannot be written."""

    exit_code = 5


class StorageError(AnomalyCliError):
    """Storage behind an address, such as a bucket, that cannot be used: network or credentials."""


class DeviceError(AnomalyCliError):
    """Device that is not available, or has too little memory."""

    exit_code = 6


class TrainingError(AnomalyCliError):
    """Divergence of training; the best weights before it are kept."""

    exit_code = 7


class GateError(AnomalyCliError):
    """Metric below the bar that the user set."""

    exit_code = 10


@contextmanager
def name_shortage(what: str) -> Iterator[None]:
    """Make too little memory for one image an error of this image.

    Raises:
        DataError: memory ran out in the block.
    """
    try:
        yield
    except Exception as error:
        if not is_shortage(error):
            raise
        raise DataError(f"{what}: there is too little memory for it") from error


def is_shortage(error: BaseException) -> bool:
    """Check for the errors with which Python, OpenCV and PyTorch say that memory ran out."""
    is_named = any(text in str(error) for text in _SHORTAGES)
    return isinstance(error, MemoryError) or is_named or type(error).__name__ == "OutOfMemoryError"


_SHORTAGES = ("Insufficient memory", "not enough memory", "can't allocate memory")


def require(is_true: bool, message: str) -> None:
    """Refuse a setting unless a condition is true.

    Raises:
        ConfigError: the condition is false; the error has the message.
    """
    if not is_true:
        raise ConfigError(message)
