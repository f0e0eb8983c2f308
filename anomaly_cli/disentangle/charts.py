"""Training curves: one panel for each statistic, one line for each run, as PNG and as SVG."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_cli.disentangle.runs import Run
from anomaly_cli.files.images import RGBImage
from anomaly_cli.pictures.layout import (
    SMALL,
    TITLE,
    Style,
    below,
    beside,
    framed,
    margin,
    pad,
    text_line,
)

WIDTH, HEIGHT = 300, 150  # of a panel, in pixels and in units of the SVG
# Of the entries, in order, from the first again after the last; legible on white and on black.
COLOURS = (
    (11, 98, 196),
    (200, 80, 20),
    (30, 140, 70),
    (160, 70, 180),
    (190, 140, 0),
    (0, 150, 165),
    (215, 50, 110),
    (120, 120, 120),
    (110, 150, 20),
    (95, 85, 215),
    (165, 100, 70),
    (70, 130, 170),
)
STATISTICS = {
    "reconstruction": "reconstruction, nats per image",
    "kl": "KL, nats per image",
    "total_correlation": "total correlation, nats",
    "discriminator_accuracy": "accuracy of the discriminator",
    "overlap": "overlap of attention (equation 6)",
    "shape_overlap": "the same of maps scaled to sum 1",
    "empty_maps": "share of maps that are empty",
    "active_latents": "active latents",
}
_SMOOTH = 0.02  # share of the reports that each point of a line averages


class Line(NamedTuple):
    """The curve of one run in one panel."""

    run: str
    entry: int  # place of its entry, which decides the colour
    points: NDArray[np.float64]  # (T, 2), in the unit square; y from the bottom


class Panel(NamedTuple):
    """A plot of one statistic over the training steps."""

    title: str
    low: float  # value at the bottom
    high: float  # value at the top
    steps: int  # step at the right end
    lines: Sequence[Line]


def make_panels(runs: Sequence[Run]) -> list[Panel]:
    """Make a panel for each statistic that at least one run has."""
    panels = []
    for name, title in STATISTICS.items():
        curves = [_curve(run, name) for run in runs]
        seen = [values[len(values) // 20 :] for _, values in curves]
        finite = [value for values in seen for value in values if math.isfinite(value)]
        if finite:
            low, high = min(finite), max(finite)
            low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
            panels.append(
                Panel(title, low, high, int(curves[0][0][-1]), _lines(runs, curves, low, high))
            )
    return panels


def _curve(run: Run, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the steps and the smoothed values of a statistic, shape (T,) each."""
    steps = np.array([stats.step for stats in run.history], np.float64)
    values = np.array([getattr(stats, name) for stats in run.history], np.float64)
    half_width = int(_SMOOTH * len(values) / 2)
    smooth = [
        values[max(0, i - half_width) : i + half_width + 1].mean() for i in range(len(values))
    ]
    return steps, np.array(smooth)


def _lines(
    runs: Sequence[Run],
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    low: float,
    high: float,
) -> list[Line]:
    entries = list(dict.fromkeys(run.entry for run in runs))
    lines = []
    for run, (steps, values) in zip(runs, curves, strict=True):
        kept = np.isfinite(values)
        heights = np.clip((values[kept] - low) / (high - low), 0, 1)
        points = np.stack([steps[kept] / steps[-1], heights], axis=1)
        lines.append(Line(run.name, entries.index(run.entry), points))
    return lines


def colour_of(entry: int) -> tuple[int, int, int]:
    """Choose the RGB colour of the entry at a place."""
    return COLOURS[entry % len(COLOURS)]


def svg_path(line: Line) -> str:
    """Format a line as an SVG path, in units of WIDTH and HEIGHT."""
    points = [f"{WIDTH * x:.1f} {HEIGHT * (1 - y):.1f}" for x, y in line.points]
    return "M" + "L".join(points) if points else ""


def curves_figure(runs: Sequence[Run]) -> RGBImage:
    """Draw all panels in two columns, under the names of the entries in their colours."""
    labels = list(dict.fromkeys(run.entry.label for run in runs))
    names = [text_line(label, Style(17, colour_of(place))) for place, label in enumerate(labels)]
    legend = [beside(names[i : i + 4], gap=24) for i in range(0, len(names), 4)]
    pictures = [_panel_picture(panel) for panel in make_panels(runs)]
    rows = [beside(pictures[i : i + 2], gap=24) for i in range(0, len(pictures), 2)]
    note = text_line("The first twentieth of the steps may leave the frame.", SMALL)
    return margin(below([text_line("Training", TITLE), *legend, note, *rows], gap=16))


def _panel_picture(panel: Panel) -> RGBImage:
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    for line in panel.lines:
        places = line.points * (WIDTH - 1, 1 - HEIGHT) + (0, HEIGHT - 1)
        cv2.polylines(
            canvas,
            [np.round(places).astype(np.int32)],
            False,
            colour_of(line.entry),
            1,
            cv2.LINE_AA,
        )
    high, low = (text_line(f"{value:.4g}", SMALL) for value in (panel.high, panel.low))
    labels = below(
        [
            pad(high, 0, 64, align=1),
            np.full((HEIGHT - 56, 64, 3), 255, np.uint8),
            pad(low, 0, 64, align=1),
        ]
    )
    plot = beside([labels, framed(canvas)], gap=6)
    ends = beside(
        [
            np.full((1, 64, 3), 255, np.uint8),
            text_line("step 0", SMALL),
            pad(text_line(f"{panel.steps:,}", SMALL), 0, WIDTH - 56, align=1),
        ],
        gap=6,
    )
    return below([text_line(panel.title), plot, ends], gap=4)
