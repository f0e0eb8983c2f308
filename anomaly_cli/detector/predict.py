"""Predictions for images, computed by a mapper in batches."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly_cli.detector.latents import NO_LATENTS, ImageLatents, describe_latents
from anomaly_cli.detector.mapper import AnomalyMapper, LatentMaps, MappedBatch
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.masks import anomaly_mask
from anomaly_cli.detector.normal.memory import nearest_patch
from anomaly_cli.detector.prediction import NearestPatch, Prediction, box_around
from anomaly_cli.detector.reading import ReadImage, Reading, predict_ahead, prepare, to_prediction
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import AnomalyMap, ColourRange, RGBImage
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import fit_map, resize_image
from anomaly_cli.pictures.latents import ExplainedImage
from anomaly_cli.pictures.layout import fit
from anomaly_cli.pictures.patches import ComparedPatch


def explain_prediction(
    prediction: Prediction,
    name: str,
    box: tuple[int, int],
    compared: ComparedPatch | None = None,
    expected: RGBImage | None = None,
) -> ExplainedImage:
    """Scale an image with its latents to fit a box (height, width), for pictures of latents.

    Args:
        prediction: with latents, if the model has any.
        name: of the image.
        box: largest height and width of the pictures.
        compared: the most unusual place and the nearest normal one.
        expected: what the model takes the image for, at any size.
    """
    latents = prediction.latents or NO_LATENTS
    tile = fit(prediction.image, *box)
    anomaly_map = fit_map(prediction.network_map, *tile.shape[:2])
    return ExplainedImage(
        name=name,
        tile=tile,
        anomaly_map=anomaly_map,
        mask=anomaly_mask(anomaly_map, prediction.threshold),
        side=len(prediction.network_map),
        score=prediction.score,
        is_anomalous=prediction.is_anomalous,
        means=latents.means,
        deviations=latents.deviations,
        shares=latents.shares,
        latent_maps=latents.maps,
        compared=compared,
        expected=None if expected is None else resize_image(expected, *tile.shape[:2]),
    )


class View(NamedTuple):
    """Settings with which one model computes and colours its predictions."""

    mapper: AnomalyMapper
    spec: MapSpec
    threshold: Threshold
    colour_range: ColourRange
    batch_size: int
    workers: int  # threads that decode
    memory_images: Sequence[str] = ()  # names of the training images, by their number


def predict_files(
    paths: Sequence[Path],
    view: View,
    *,
    with_latents: bool = False,
    decode: Callable[[Path], RGBImage] = read_image,
) -> Iterator[Prediction | DataError]:
    """Predict image files in their order; a file that cannot be read gives its error."""
    reading = Reading(view.mapper.size, view.batch_size, view.workers)
    predict = partial(_predict, view=view, with_latents=with_latents)
    return predict_ahead(paths, reading, predict, decode=decode)


def predict_image(
    image: RGBImage, view: View, *, path: Path | None = None, with_latents: bool = False
) -> Prediction:
    """Predict one image (H, W, 3)."""
    (result,) = _predict(
        [prepare(image, view.mapper.size, 0, path)], view, with_latents=with_latents
    )
    if isinstance(result, DataError):
        raise result
    return result


def _predict(
    batch: list[ReadImage], view: View, *, with_latents: bool
) -> Iterator[Prediction | DataError]:
    """Predict a batch; an image whose score is not a finite number gives an error."""
    if not batch:
        return
    mapper = view.mapper
    images = to_tensor(np.stack([item.resized for item in batch]))
    latents: Sequence[ImageLatents | None] = [None] * len(batch)
    computed: LatentMaps | MappedBatch
    if with_latents:
        computed = mapper.with_latents(images, view.spec)
        latents = describe_latents(computed, mapper.settings.smoothing)
    else:
        computed = mapper.map_batch(images, view.spec)
    maps = computed.anomaly_maps
    for place, (item, network_map, of_image) in enumerate(zip(batch, maps, latents, strict=True)):
        yield to_prediction(
            item,
            network_map,
            threshold=view.threshold,
            colour_range=view.colour_range,
            nearest=_find_nearest(computed.patches, place, network_map, view),
            latents=of_image,
        )


def _find_nearest(
    patches: Tensor | None, place: int, network_map: AnomalyMap, view: View
) -> NearestPatch | None:
    """Find the normal patch that is nearest to the highest pixel of image number `place`."""
    memory = view.mapper.memory
    if patches is None or memory is None:
        return None
    row, column = np.unravel_index(int(network_map.argmax()), network_map.shape)
    height, width = patches.shape[2:]
    side = len(network_map)
    at = (int(row) * height // side, int(column) * width // side)
    feature = patches[place, :, at[0], at[1]].to(memory.patches.device)
    number = nearest_patch(feature, memory)
    return NearestPatch(
        box_around(*at, height, width),
        view.memory_images[int(memory.image[number])],
        box_around(int(memory.row[number]), int(memory.column[number]), height, width),
        float((memory.patches[number] - feature).norm() / memory.scale),
    )


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Convert images (B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1], in channels_last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32).div_(255)


def to_image(image: Tensor) -> RGBImage:
    """Convert an image (3, H, W) in [0, 1] to (H, W, 3) uint8."""
    levels = image.clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())
