"""The worst images of a category as small pictures: image, ground truth, anomaly map, mask."""

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_cli.data.samples import Sample
from anomaly_cli.detector.masks import anomaly_mask
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import DataError
from anomaly_cli.evaluation.counts import JudgedImage
from anomaly_cli.evaluation.images import CategorySource, ground_truth
from anomaly_cli.evaluation.results import CategoryResult, Example, ImageMetricsRow
from anomaly_cli.files.images import Mask, RGBImage
from anomaly_cli.files.resize import resize_mask
from anomaly_cli.pictures.colours import heat_levels, heatmap

SIDE = 192  # pixels of the longer side


class Gallery(NamedTuple):
    """Example images of one category, worst first."""

    misses: list[Example]  # anomalous images with the lowest recall
    false_alarms: list[Example]  # normal images with the highest scores


def draw_gallery(
    source: CategorySource, judged: Sequence[JudgedImage], result: CategoryResult, *, count: int
) -> Gallery:
    """Draw at most `count` misses and as many false alarms.

    Args:
        source: the test split; the maps of the chosen images are computed again.
        judged: the images of the result, in the same order.
        result: metrics of the images, by which the worst are chosen.
        count: largest number of each; 0 for none.
    """
    pairs = list(zip(judged, result.images, strict=True))
    anomalous = [pair for pair in pairs if pair[0].sample.is_anomalous]
    normal = [pair for pair in pairs if not pair[0].sample.is_anomalous]
    anomalous.sort(key=lambda pair: (_worst(pair[1].recall), pair[1].score))
    normal.sort(key=lambda pair: -pair[1].score)
    threshold = source.threshold
    if math.isnan(threshold.value):  # use that of the best IoU, which has no outline
        metrics = result.metrics
        threshold = Threshold(metrics.table_threshold, metrics.table_threshold_rule, 0)
    colours = source.colour_range or _colour_range(judged, threshold.value)
    drawn = []
    for chosen in (anomalous[:count], normal[:count]):
        samples = [image.sample for image, _row in chosen]
        rows = [row for _image, row in chosen]
        drawn.append(_examples(source, samples, rows, threshold, colours))
    return Gallery(*drawn)


def _worst(recall: float) -> float:
    return recall if math.isfinite(recall) else 2.0  # NaN: the mask vanished when it was resized


def _examples(
    source: CategorySource,
    samples: Sequence[Sample],
    rows: Sequence[ImageMetricsRow],
    threshold: Threshold,
    colours: tuple[float, float],
) -> list[Example]:
    examples = []
    for sample, row, drawn in zip(samples, rows, source.draw(samples), strict=True):
        truth = ground_truth(sample, drawn, source) if source.has_masks else None
        image = _image_of(sample, source)
        heat = heatmap(heat_levels(_shrink(drawn.anomaly_map), colours))
        examples.append(
            Example(
                row=row,
                image=None if image is None else _jpeg(_shrink(image)),
                truth=None if truth is None else _png(truth),
                heatmap=_jpeg(heat),
                mask=_png(anomaly_mask(drawn.anomaly_map, threshold)),
            )
        )
    return examples


def _image_of(sample: Sample, source: CategorySource) -> RGBImage | None:
    """Read the image of a sample; None if it is missing, as it may be for saved maps."""
    try:
        return source.read(sample.path)
    except DataError:
        return None


def _colour_range(judged: Sequence[JudgedImage], threshold: float) -> tuple[float, float]:
    """Choose a range from the median of normal pixels up, with the threshold in its middle."""
    largest = max(judged, key=lambda image: image.pixels.negatives)
    peak = max(image.peak for image in judged)
    low = largest.typical if largest.pixels.negatives else 0.0
    high = 2 * threshold - low if threshold > low else peak
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return 0.0, 1.0
    return low, high


def _shrink(array: NDArray[Any]) -> NDArray[Any]:
    height, width = _small_size(*array.shape[:2])
    if (height, width) == array.shape[:2]:
        return array
    return np.asarray(cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA))


def _small_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _jpeg(image: RGBImage) -> bytes:
    return _encode(Image.fromarray(image), "JPEG", quality=85)


def _png(mask: Mask) -> bytes:
    small = resize_mask(mask, *_small_size(*mask.shape))
    return _encode(Image.fromarray(small), "PNG", optimize=True)


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
