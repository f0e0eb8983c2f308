"""What the user can act on. Each error carries its exit code; `cli` alone catches them."""


class AnomalyCliError(Exception):
    """Base of the errors that end a command with one line on stderr and no traceback."""

    exit_code = 1


class ConfigError(AnomalyCliError):
    """An option or setting is out of range, unknown, or contradicts another."""

    exit_code = 2


class DataError(AnomalyCliError):
    """A data set or an image is missing, unreadable or inconsistent."""

    exit_code = 3


class CheckpointError(AnomalyCliError):
    """A model file is missing, damaged, or of another format."""

    exit_code = 4


class OutputError(AnomalyCliError):
    """A result cannot be written."""

    exit_code = 5


class DeviceError(AnomalyCliError):
    """The device that was asked for is not there."""

    exit_code = 6


class TrainingError(AnomalyCliError):
    """Training diverged; the best weights before it are kept."""

    exit_code = 7


class GateError(AnomalyCliError):
    """A metric fell short of the bar the user set."""

    exit_code = 10


def require(is_true: bool, message: str) -> None:
    """Refuse a setting.

    Raises:
        ConfigError: it is not true, with the message.
    """
    if not is_true:
        raise ConfigError(message)
