"""Figures of the paper that no other command draws, and the titles of all figures."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from anomaly_cli.config.names import RECONSTRUCTION
from anomaly_cli.config.reproduce import REDUCED_MARK
from anomaly_cli.data.samples import GOOD, Sample, spread
from anomaly_cli.evaluation.images import CategorySource, DrawnMap
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.read import read_mask
from anomaly_cli.files.resize import resize_image, resize_map, resize_mask
from anomaly_cli.pictures.colours import heat_levels, heatmap, overlay
from anomaly_cli.pictures.latents import CAPTION, ExplainedImage, Scale, figure_row
from anomaly_cli.pictures.layout import (
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
DIGIT_SIDE, FRAME_SIDE = 84, 176  # pixels of a picture of MNIST and UCSD
EXAMPLES = 3  # of each digit
FRAMES = 3  # of each clip
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
    """Explained images of one model, and the latents to show."""

    name: str  # data set and category
    images: Sequence[ExplainedImage]
    latents: Sequence[int]
    scale: Scale


def titled(picture: RGBImage, title: str, reduced: str) -> RGBImage:
    """Put a title above a figure; a figure of a reduced run is marked with its settings."""
    width = picture.shape[1] - 4 * GAP
    lines = [
        paragraph(f"{title}. Liu et al., CVPR 2020, made anew with anomaly-cli", TITLE, width=width)
    ]
    if reduced:
        lines.append(paragraph(f"{REDUCED_MARK}: {reduced}", _MARK, width=width))
    head = margin(below(lines, gap=2))
    return below([head[: head.shape[0] - 2 * GAP], picture], gap=0)


def choose_defects(samples: Sequence[Sample]) -> list[Sample]:
    """Choose the middle image of each of the first few defect types."""
    kinds = sorted({sample.defect_type for sample in samples if sample.is_anomalous})
    of_kinds = [[s for s in samples if s.defect_type == kind] for kind in kinds[:DEFECT_TYPES]]
    return [of_kind[len(of_kind) // 2] for of_kind in of_kinds]


def defect_sheet(sources: Mapping[str, CategorySource]) -> RGBImage:
    """Draw Figure 6: image, ground truth and attention overlay; columns are defect types."""
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
        pictures = [image, _truth(sample, SIDE), overlay(image, levels)]
        title = text_line(sample.defect_type, width=SIDE)
        rows.append([title, *(framed(picture) for picture in pictures)])
    columns = [list(row) for row in zip(*rows, strict=True)]  # defect types from left to right
    head = below([text_line(name, HEADING), text_line(f"map {source.map}", SMALL)], gap=0)
    return below([head, grid(columns)])


def _truth(sample: Sample, side: int) -> RGBImage:
    """Draw the ground-truth mask; all grey if there is none."""
    if sample.mask_path is None:
        return np.full((side, side, 3), 127, np.uint8)
    mask = resize_mask(read_mask(sample.mask_path), side, side)
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)


def choose_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Choose a few anomalous images, of different defect types if there are enough."""
    anomalous = [sample for sample in samples if sample.is_anomalous]
    kinds = sorted({sample.defect_type for sample in anomalous})
    if len(kinds) < SAMPLES:
        return spread(anomalous, SAMPLES)
    of_kinds = [[s for s in anomalous if s.defect_type == kind] for kind in spread(kinds, SAMPLES)]
    return [of_kind[len(of_kind) // 2] for of_kind in of_kinds]


def teaser(blocks: Sequence[TeaserBlock]) -> RGBImage:
    """Draw Figure 1: a row for each sample, a column for each of three latents, by data set."""
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


def choose_digits(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Choose the first few images of each defect type, by name of the type, normal ones first."""
    kinds = sorted(
        {sample.defect_type for sample in samples}, key=lambda kind: (kind != GOOD, kind)
    )
    return {
        kind: [sample for sample in samples if sample.defect_type == kind][:EXAMPLES]
        for kind in kinds
    }


def digit_sheet(source: CategorySource) -> RGBImage:
    """Draw Figure 4: a row per digit with image, anomaly map and overlay of some of its images.

    The first row is the digit that the model was trained on.
    """
    chosen = choose_digits(source.samples)
    of_map = "error" if source.map.startswith(RECONSTRUCTION) else "attention"
    heads = [text_line(head, HEADING) for head in ("image", of_map, "overlay")]
    rows = [[text_line("digit", HEADING), *(heads * EXAMPLES)]]
    for kind, samples in chosen.items():
        row = [text_line(source.category if kind == GOOD else kind, TITLE)]
        for sample, drawn in zip(samples, source.draw(samples), strict=True):
            row += _pictures(source, sample, drawn, DIGIT_SIDE)
        rows.append(row)
    title = text_line(f"Model of digit {source.category}, tested on all digits", TITLE)
    return margin(below([title, text_line(_legend(source), SMALL), grid(rows)], gap=2 * GAP))


def _pictures(source: CategorySource, sample: Sample, drawn: DrawnMap, side: int) -> list[RGBImage]:
    image = resize_image(source.read(sample.path), side, side)
    levels = heat_levels(resize_map(drawn.anomaly_map, side, side), _colours(source))
    return [framed(picture) for picture in (image, heatmap(levels), overlay(image, levels))]


def _colours(source: CategorySource) -> tuple[float, float]:
    return source.colour_range or (0.0, 1.0)


def _legend(source: CategorySource) -> str:
    return f"map {source.map}; one colour scale for all pictures, the threshold in its middle"


def choose_frames(samples: Sequence[Sample]) -> list[Sample]:
    """Choose some anomalous frames of each clip, evenly spaced."""
    clips = sorted({sample.defect_type for sample in samples if sample.is_anomalous})
    chosen = []
    for clip in clips:
        frames = [sample for sample in samples if sample.defect_type == clip]
        places = np.linspace(0, len(frames) - 1, 2 * FRAMES + 1).round().astype(int)[1::2]
        chosen += [frames[place] for place in dict.fromkeys(places.tolist())]
    return chosen


def frame_sheet(sources: Mapping[str, CategorySource]) -> RGBImage:
    """Draw Figure 5: the frame, its ground truth, and each map under the name of its column."""
    first = next(iter(sources.values()))
    samples = choose_frames(first.samples)
    heads = ["frame", "ground truth", *sources]
    columns = [
        [first.read(sample.path) for sample in samples],
        [_truth(s, FRAME_SIDE) for s in samples],
    ]
    for source in sources.values():
        pairs = zip(samples, source.draw(samples), strict=True)
        columns.append([_pictures(source, *pair, FRAME_SIDE)[1] for pair in pairs])
    rows = [[text_line(head, HEADING) for head in heads]]
    for sample, *pictures in zip(samples, *columns, strict=True):
        tiles = [resize_image(picture, FRAME_SIDE, FRAME_SIDE) for picture in pictures]
        rows.append([below([tiles[0], text_line(sample.name, SMALL)], gap=2), *tiles[1:]])
    cell = FRAME_SIDE + GAP
    picture = below([beside([pad(piece, 0, cell) for piece in row]) for row in rows])
    title = text_line(f"{first.category}: anomaly maps of one model", TITLE)
    legend = text_line("colours: one scale for each map, its threshold in the middle", SMALL)
    return margin(below([title, legend, picture], gap=2 * GAP))
