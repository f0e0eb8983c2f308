"""Results -> rich tables and progress. With `cli`, the only code that knows rich."""

from anomaly_cli.console.data_table import show_data_report
from anomaly_cli.console.progress import counting_progress, training_progress
from anomaly_cli.console.streams import configure, error, note, print_json, warn
from anomaly_cli.console.tables import (
    show_evaluation,
    show_explanation,
    show_localization,
    show_samples,
    show_training,
)

__all__ = [
    "configure",
    "counting_progress",
    "error",
    "note",
    "print_json",
    "show_data_report",
    "show_evaluation",
    "show_explanation",
    "show_localization",
    "show_samples",
    "show_training",
    "training_progress",
    "warn",
]
