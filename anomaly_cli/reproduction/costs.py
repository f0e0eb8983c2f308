"""What a reproduction will cost on this machine, in seconds: measured steps times their number."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from anomaly_cli.config.train import HALF_SAVES

WARM_UP, TIMED = 1, 4  # steps
MOST_SECONDS = 30.0  # of the timing of one kind of training


class StageCost(NamedTuple):
    """One training or one evaluation."""

    stage: str
    work: str  # such as "3,900 steps of 0.61 s"
    seconds: float


class Estimate(NamedTuple):
    """What tables and figures need and cost."""

    needs: Mapping[str, str]  # data in words, by target
    rows: tuple[StageCost, ...]
    reduction: str  # how a reduced run is smaller; empty for a full one

    @property
    def seconds(self) -> float:
        """In all."""
        return sum(row.seconds for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "reduced": bool(self.reduction),
            "needs": dict(self.needs),
            "stages": [row._asdict() for row in self.rows],
            "seconds": self.seconds,
        }


class TrainingCost(NamedTuple):
    """What one kind of one-class training costs; seconds."""

    step: float
    held_out: float  # an image, after each epoch
    image: float  # to read it


def cost_of_epochs(
    each: TrainingCost,
    *,
    fit: int,
    held_out: int,
    batch_size: int,
    epochs: int,
    half: int = 0,
    per_look: int = 1,
) -> tuple[int, float]:
    """Steps and seconds of epochs over `fit` images, the held-out ones after each `per_look`.

    `half` of the epochs are of images of half the side.
    """
    steps = max(1, fit // batch_size)
    whole = epochs - HALF_SAVES * half
    reading = (fit + held_out) * each.image
    seconds = whole * (steps * each.step + held_out * each.held_out / per_look) + reading
    return steps * epochs, seconds


def duration_text(seconds: float) -> str:
    """Two digits, such as "45 s", "2.5 min" or "31 h"."""
    if not math.isfinite(seconds):
        return "n/a"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{_two_digits(seconds / unit)} {name}"
    return f"{_two_digits(seconds / 86400)} days"


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
