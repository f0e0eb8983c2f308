"""The figures of the paper that no other command draws, and the words around all of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from anomaly_cli.config.reproduce import REDUCED_MARK
from anomaly_cli.data.samples import Sample, spread
from anomaly_cli.evaluation import CategorySource
from anomaly_cli.explanation import CAPTION, ExplainedImage, Scale, figure_row
from anomaly_cli.files.images import RGBImage, read_mask, resize_image, resize_map, resize_mask
from anomaly_cli.rendering import heat_levels, overlay
from anomaly_cli.sheets import (
    GAP,
    HEADING,
    SMALL,
    TITLE,
    Style,
    below,
    beside,
    colour_bar,
    framed,
    grid,
    margin,
    pad,
    paragraph,
    text_line,
)

SIDE = 160  # pixels of a picture
DEFECT_TYPES = 4  # of each category, as in the paper
ACROSS = 2  # categories side by side
LATENTS = 3  # of Figure 1
SAMPLES = 3  # of each data set
_MARK = Style(22, (190, 20, 20))
_LATENTS_IN_WORDS = (
    "A block is one model of normal images, a row a test image with an anomaly. The anomaly map is "
    "the mean of the attention maps of all latents (gradcam); beside it are the three latents with "
    "the largest share of it in these samples. Under each: the value z of the latent and how many "
    "standard deviations (sd) that lies from normal images. As in the paper, the question is "
    "whether one latent looks at the same thing in all samples. Colours of one latent reach as "
    "much further as a single latent varies more than the mean of all."
)


class TeaserBlock(NamedTuple):
    """What the latents of one model look at."""

    name: str  # of data set and category
    images: Sequence[ExplainedImage]
    latents: Sequence[int]
    scale: Scale


def titled(picture: RGBImage, title: str, reduced: str) -> RGBImage:
    """A figure under what it reproduces; a reduced one is marked, with its settings."""
    width = picture.shape[1] - 4 * GAP
    lines = [
        paragraph(f"{title}. Liu et al., CVPR 2020, made anew with anomaly-cli", TITLE, width=width)
    ]
    if reduced:
        lines.append(paragraph(f"{REDUCED_MARK}: {reduced}", _MARK, width=width))
    head = margin(below(lines, gap=2))
    return below([head[: head.shape[0] - 2 * GAP], picture], gap=0)


def choose_defects(samples: Sequence[Sample]) -> list[Sample]:
    """The middle image of each of the first few defect types."""
    kinds = sorted({sample.defect_type for sample in samples if sample.is_anomalous})
    of_kinds = [[s for s in samples if s.defect_type == kind] for kind in kinds[:DEFECT_TYPES]]
    return [of_kind[len(of_kind) // 2] for of_kind in of_kinds]


def defect_sheet(sources: Mapping[str, CategorySource]) -> RGBImage:
    """Figure 6: image, ground truth and attention over the image; columns are defect types."""
    blocks = [_defect_block(name, source) for name, source in sources.items()]
    rows = [blocks[start : start + ACROSS] for start in range(0, len(blocks), ACROSS)]
    width = max(block.shape[1] for block in blocks)
    picture = below(
        [beside([pad(b, 0, width, align=0) for b in row], gap=4 * GAP) for row in rows],
        gap=4 * GAP,
    )
    ticks = [(0, "normal"), (0.5, "threshold"), (1, "twice as far")]
    scale = colour_bar("colours of each model's map", ticks, width=320)
    return margin(below([picture, scale], gap=2 * GAP))


def _defect_block(name: str, source: CategorySource) -> RGBImage:
    samples = choose_defects(source.samples)
    rows = [[text_line(text) for text in ("", "image", "ground truth", "attention")]]
    for sample, drawn in zip(samples, source.draw(samples), strict=True):
        image = resize_image(source.read(sample.path), SIDE, SIDE)
        anomaly_map = resize_map(drawn.anomaly_map, SIDE, SIDE)
        levels = heat_levels(anomaly_map, source.colour_range or (0.0, 1.0))
        pictures = [image, _truth(sample), overlay(image, levels)]
        title = text_line(sample.defect_type, width=SIDE)
        rows.append([title, *(framed(picture) for picture in pictures)])
    columns = [list(row) for row in zip(*rows, strict=True)]  # defect types from left to right
    head = below([text_line(name, HEADING), text_line(f"map {source.map}", SMALL)], gap=0)
    return below([head, grid(columns)])


def _truth(sample: Sample) -> RGBImage:
    if sample.mask_path is None:
        return np.repeat(np.full((SIDE, SIDE, 1), 127, np.uint8), 3, axis=2)
    mask = resize_mask(read_mask(sample.mask_path), SIDE, SIDE)
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)


def choose_samples(samples: Sequence[Sample]) -> list[Sample]:
    """A few anomalous images, of different defect types where there are as many."""
    anomalous = [sample for sample in samples if sample.is_anomalous]
    kinds = sorted({sample.defect_type for sample in anomalous})
    if len(kinds) < SAMPLES:
        return spread(anomalous, SAMPLES)
    of_kinds = [[s for s in anomalous if s.defect_type == kind] for kind in spread(kinds, SAMPLES)]
    return [of_kind[len(of_kind) // 2] for of_kind in of_kinds]


def teaser(blocks: Sequence[TeaserBlock]) -> RGBImage:
    """Figure 1: a row for each sample, a column for each of three latents, by data set."""
    pieces = []
    for block in blocks:
        heads = ["sample", "anomaly map", *(f"latent z{latent}" for latent in block.latents)]
        rows = [[text_line(head, HEADING) for head in heads]]
        rows += [figure_row(image, block.latents, block.scale) for image in block.images]
        pieces.append(below([text_line(block.name, TITLE), grid(rows, cell=CAPTION)]))
    width = max(piece.shape[1] for piece in pieces)
    ticks = [(0, "normal"), (0.5, "threshold"), (1, "twice as far")]
    scale = colour_bar("colours: one scale for each model", ticks, width=320)
    words = paragraph(_LATENTS_IN_WORDS, SMALL, width=width)
    return margin(below([words, scale, *pieces], gap=3 * GAP))
