"""Synthetic defects in normal images, each with the exact mask of the changed pixels.

Sizes are shares of the image's short side, so that one setting serves 64 to 1024 pixels. Size and
contrast of each defect are random, from obvious to barely visible.
"""

from anomaly_cli.data.defects.canvas import DefectKind, SyntheticDefect
from anomaly_cli.data.defects.foreground import foreground_mask
from anomaly_cli.data.defects.painter import (
    WEIGHTS,
    DefectPainter,
    TrainingPainter,
    draw_defect,
)
from anomaly_cli.data.defects.visibility import MIN_AREA, MIN_DIFFERENCE

__all__ = [
    "MIN_AREA",
    "MIN_DIFFERENCE",
    "WEIGHTS",
    "DefectKind",
    "DefectPainter",
    "SyntheticDefect",
    "TrainingPainter",
    "draw_defect",
    "foreground_mask",
]
