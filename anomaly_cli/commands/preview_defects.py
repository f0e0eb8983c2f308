"""`preview-defects`: draw a sheet of synthetic defects in normal images of a category."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from anomaly_cli.config.data import PreviewDefectsConfig
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.defects import (
    DefectKind,
    DefectPainter,
    SyntheticDefect,
    TrainingPainter,
)
from anomaly_cli.data.photographs import load_donors
from anomaly_cli.errors import OutputError
from anomaly_cli.files.images import RGBImage, write_png
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image, resize_mask
from anomaly_cli.pictures.colours import overlay
from anomaly_cli.pictures.layout import (
    HEADING,
    TITLE,
    below,
    beside,
    framed,
    margin,
    pad,
    paragraph,
    text_line,
)
from anomaly_cli.training.painted import Painter

SCHEMA_VERSION = 1
MAX_NORMALS = 32  # images, evenly spaced, that rows and donors are taken from
TILE = 256  # pixels; smaller images are enlarged to it, so that outlines can be seen
LABEL_WIDTH = 80  # pixels
OUTLINE = 4  # pixels between a defect and its outline
MIXTURE = "training"  # row of the mixture that training uses, with coarse defects


class PreviewResult(NamedTuple):
    """The result of `preview-defects`."""

    output: Path
    category: str
    has_foreground: bool
    areas: dict[str, list[float]]  # shares of the image, by kind and for MIXTURE


def run(config: PreviewDefectsConfig) -> PreviewResult:
    """Draw defects of each kind into normal images and write one picture of them.

    Raises:
        OutputError: the file is there already.
    """
    dataset = DATASETS[config.dataset]
    (category,) = dataset.select_categories(config.data, config.category)
    paths = dataset.training_images(config.data, category)
    if config.output.exists() and not config.overwrite:
        raise OutputError(f"{config.output} exists; choose another file or add --overwrite")
    size = config.image_size
    chosen = paths[:: -(-len(paths) // MAX_NORMALS)]
    normals = [resize_image(read_image(path), size, size) for path in chosen]
    painter = DefectPainter(normals, load_donors(category))  # as in training
    painters: dict[str, Painter] = {kind: partial(painter, kind=kind) for kind in DefectKind}
    painters[MIXTURE] = TrainingPainter(painter)
    rows, areas = [], {}
    for name, draw in painters.items():
        normal, defects = _draw_examples(draw, normals, name, config)
        rows.append(_draw_row(name, normal, defects))
        areas[str(name)] = [float(defect.mask.mean()) for defect in defects]
    title = f"{category}: normal, and with synthetic defects (seed {config.seed})"
    heading = paragraph(title, TITLE, width=rows[0].shape[1])
    write_png(config.output, margin(below([heading, *rows])))
    return PreviewResult(config.output, category, painter.has_foreground, areas)


def _draw_examples(
    draw: Painter,
    normals: Sequence[RGBImage],
    name: str,
    config: PreviewDefectsConfig,
) -> tuple[RGBImage, list[SyntheticDefect]]:
    """Choose a normal image and draw defects of one row in it, seeded by the row's name."""
    generator = np.random.default_rng([config.seed, *name.encode()])
    normal = normals[int(generator.integers(len(normals)))]
    return normal, [draw(normal, generator) for _ in range(config.examples)]


def _draw_row(name: str, normal: RGBImage, defects: Sequence[SyntheticDefect]) -> RGBImage:
    """Draw the name of the row, the normal image, and the examples."""
    label = pad(text_line(name, HEADING), 0, LABEL_WIDTH, align=0)
    tiles = [_tile(normal), *(_outlined(defect) for defect in defects)]
    return beside([label, *(framed(tile) for tile in tiles)])


def _tile(image: RGBImage) -> RGBImage:
    side = max(TILE, len(image))
    return resize_image(image, side, side)


def _outlined(defect: SyntheticDefect) -> RGBImage:
    """Draw a line around the defect, at a distance that leaves it visible."""
    tile = _tile(defect.image)
    mask = resize_mask(defect.mask, *tile.shape[:2]).astype(np.uint8)
    wider = cv2.dilate(mask, np.ones((2 * OUTLINE + 1,) * 2, np.uint8))
    return overlay(tile, np.zeros(tile.shape[:2], np.uint8), np.asarray(wider, bool))


def to_json(result: PreviewResult) -> dict[str, Any]:
    """Convert the numbers of the sheet to plain JSON values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "category": result.category,
        "output": str(result.output),
        "has_foreground": result.has_foreground,
        "areas": result.areas,
    }
