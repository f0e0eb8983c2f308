"""Figures 4 and 5 of the paper: the anomaly maps of digits and of pedestrian videos."""

from collections.abc import Mapping, Sequence

import numpy as np

from anomaly_cli.config.names import RECONSTRUCTION
from anomaly_cli.data.samples import GOOD, Sample
from anomaly_cli.evaluation import CategorySource, DrawnMap
from anomaly_cli.files.images import RGBImage, read_mask, resize_image, resize_map, resize_mask
from anomaly_cli.rendering import heat_levels, heatmap, overlay
from anomaly_cli.sheets import (
    GAP,
    HEADING,
    SMALL,
    TITLE,
    below,
    beside,
    framed,
    grid,
    margin,
    pad,
    text_line,
)

DIGIT_SIDE, FRAME_SIDE = 84, 176  # pixels of a picture
EXAMPLES = 3  # of each digit
FRAMES = 3  # of each clip


def choose_digits(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The first few images of each defect type in the order of their names, normal ones first."""
    kinds = sorted(
        {sample.defect_type for sample in samples}, key=lambda kind: (kind != GOOD, kind)
    )
    return {
        kind: [sample for sample in samples if sample.defect_type == kind][:EXAMPLES]
        for kind in kinds
    }


def digit_sheet(source: CategorySource) -> RGBImage:
    """Figure 4: a row for each test digit; image, anomaly map and overlay of some of its images.

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
    """Some anomalous frames of each clip, evenly spaced."""
    clips = sorted({sample.defect_type for sample in samples if sample.is_anomalous})
    chosen = []
    for clip in clips:
        frames = [sample for sample in samples if sample.defect_type == clip]
        places = np.linspace(0, len(frames) - 1, 2 * FRAMES + 1).round().astype(int)[1::2]
        chosen += [frames[place] for place in dict.fromkeys(places.tolist())]
    return chosen


def frame_sheet(sources: Mapping[str, CategorySource]) -> RGBImage:
    """Figure 5: frame, ground truth, and each map by the name of its column."""
    first = next(iter(sources.values()))
    samples = choose_frames(first.samples)
    heads = ["frame", "ground truth", *sources]
    columns = [[first.read(sample.path) for sample in samples], [_truth(s) for s in samples]]
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


def _truth(sample: Sample) -> RGBImage:
    assert sample.mask_path is not None  # noqa: S101 - anomalous frames have one
    mask = resize_mask(read_mask(sample.mask_path), FRAME_SIDE, FRAME_SIDE)
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
