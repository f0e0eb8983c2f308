"""Compare the anomaly maps of a test split with the ground truth, image by image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly_cli.config.names import MaskResizing
from anomaly_cli.config.values import ImageScore
from anomaly_cli.data.samples import Sample
from anomaly_cli.detector.masks import anomaly_mask
from anomaly_cli.detector.scores import score_image
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import AnomalyMap, Mask, RGBImage
from anomaly_cli.files.read import read_image, read_mask
from anomaly_cli.files.resize import fit_map, resize_mask, resize_mask_by_area
from anomaly_cli.metrics.confusion import Found, find
from anomaly_cli.metrics.images import NO_PIXELS, ImagePixels, sort_pixels

_RESIZE: Mapping[MaskResizing, Callable[[Mask, int, int], Mask]] = {
    "nearest": resize_mask,
    "area": resize_mask_by_area,
}


class DrawnMap(NamedTuple):
    """An anomaly map at its own size, and the size of the image that it belongs to."""

    anomaly_map: AnomalyMap
    height: int
    width: int
    name: str  # of the map, in error messages


@dataclass(frozen=True, kw_only=True)
class CategorySource:
    """The test split of one category, and the function that computes its anomaly maps."""

    category: str
    samples: Sequence[Sample]
    draw: Callable[[Sequence[Sample]], Iterator[DrawnMap]]  # maps, in the given order
    threshold: Threshold  # of value NaN if there is none
    map: str  # name of the map
    resolution: int | None  # side at which maps and masks are compared; None: size of the image
    colour_range: tuple[float, float] | None = None  # None: chosen from the maps
    model_sha256: str | None = None
    maps_sha256: str | None = None
    data_sha256: str
    latents: str = ""  # synthetic defects that they respond to; empty without latents
    read: Callable[[Path], RGBImage] = read_image  # reads the image of a sample
    mask_resizing: MaskResizing = "nearest"  # where masks get the size of the map
    has_masks: bool = True  # of every anomalous image; if not, no pixel is counted
    lacks: str = ""  # what is missing for further metrics, such as masks


Sources = Mapping[str, Callable[[], CategorySource]]  # functions that open a category, by its name


class CountedImage(NamedTuple):
    """A test image whose map has been compared with its ground truth."""

    sample: Sample
    pixels: ImagePixels  # empty if the category has no masks
    score: float
    peak: float  # highest value of the map at its own size, compared with the threshold
    found: Found | None  # by the stored threshold; None without threshold or masks


def count_images(
    source: CategorySource, samples: Sequence[Sample], score: ImageScore
) -> Iterator[CountedImage]:
    """Compare the map of each sample with its ground truth.

    Raises:
        DataError: a map, an image or a mask cannot be read, or their sizes differ.
    """
    for sample, drawn in zip(samples, source.draw(samples), strict=True):
        anomaly_map = drawn.anomaly_map
        if source.resolution is None:
            anomaly_map = fit_map(anomaly_map, drawn.height, drawn.width)
        pixels, found = NO_PIXELS, None
        if source.has_masks:
            mask = ground_truth(sample, drawn, source)
            pixels = sort_pixels(anomaly_map, mask, name=drawn.name)
            if not np.isnan(source.threshold.value):
                found = find(anomaly_mask(anomaly_map, source.threshold), mask)
        yield CountedImage(
            sample=sample,
            pixels=pixels,
            score=score_image(drawn.anomaly_map, score),
            peak=float(drawn.anomaly_map.max()),
            found=found,
        )


def ground_truth(sample: Sample, drawn: DrawnMap, source: CategorySource) -> Mask:
    """Read the ground-truth mask (H, W) of a sample; all False for a normal image.

    Args:
        sample: the image.
        drawn: its anomaly map.
        source: at its `resolution`, the mask gets the size of the map instead of the image.

    Raises:
        DataError: the mask cannot be read, marks nothing, or has another size than the image.
            Another size with the same ratio of its sides is accepted if masks are resized.
    """
    is_resized = source.resolution is not None
    height, width = drawn.anomaly_map.shape if is_resized else (drawn.height, drawn.width)
    if sample.mask_path is None:
        return np.zeros((height, width), bool)
    mask = read_mask(sample.mask_path)
    if not mask.any():
        raise DataError(f"{sample.mask_path} marks nothing, but {sample.path} shows a defect")
    if is_resized:
        if not _have_equal_sides(mask.shape, (drawn.height, drawn.width)):
            raise DataError(
                f"{sample.path} has {drawn.height} x {drawn.width} pixels (upright), "
                f"but {sample.mask_path} has {mask.shape[0]} x {mask.shape[1]}"
            )
        return _RESIZE[source.mask_resizing](mask, height, width)
    if mask.shape != (height, width):
        raise DataError(
            f"{drawn.name} has {height} x {width} pixels, "
            f"but {sample.mask_path} has {mask.shape[0]} x {mask.shape[1]}"
        )
    return mask


def _have_equal_sides(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Check that two sizes have one ratio of their sides, to a pixel of the smaller size."""
    scale = mask[0] / image[0]
    return abs(mask[1] - image[1] * scale) <= max(1.0, scale)
