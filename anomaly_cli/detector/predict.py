"""Predictions for images, which threads decode ahead of the network."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly_cli.detector.latents import NO_LATENTS, ImageLatents, describe_latents
from anomaly_cli.detector.mapper import AnomalyMapper, LatentMaps, MappedBatch
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.masks import anomaly_mask
from anomaly_cli.detector.normal.memory import nearest_patch
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import DataError, name_shortage
from anomaly_cli.files.images import AnomalyMap, ColourRange, Mask, RGBImage, write_png, write_tiff
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import fit_map, resize_image
from anomaly_cli.pictures.colours import PALETTE, heat_levels, overlay
from anomaly_cli.pictures.latents import ExplainedImage
from anomaly_cli.pictures.layout import fit
from anomaly_cli.pictures.patches import Box, ComparedPatch

T = TypeVar("T")
R = TypeVar("R")

KINDS = ("maps", "heatmaps", "overlays", "masks")  # of output that `Prediction.save` writes
_KEPT_BYTES = 1 << 29  # of decoded images that wait for the network or for the disk


class NearestPatch(NamedTuple):
    """The normal patch that is nearest to the highest pixel of an anomaly map."""

    place: Box  # around that pixel, in the image itself
    image: str  # training image, relative to the folder of the category
    box: Box  # of the patch, in the training image
    distance: float  # 1 on average for places of normal images

    def record(self) -> dict[str, Any]:
        """List the fields as plain JSON values."""
        return self._asdict() | {"place": list(self.place), "box": list(self.box)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """An image with its anomaly map, score and mask.

    Maps and masks at the size of the image are computed when they are first asked for.
    """

    height: int  # of the image, in pixels
    width: int
    network_map: AnomalyMap  # (S, S) float32, the anomaly map at the network's size
    score: float  # image-level anomaly score: the maximum of `network_map`
    threshold: Threshold
    colour_range: ColourRange  # map values at the two ends of the colour bar
    position: int = 0  # index among the images of one call
    path: Path | None = None  # file that the image was read from; None: an array
    nearest: NearestPatch | None = None  # of the highest pixel, for maps with a memory
    latents: ImageLatents | None = None  # None: not asked for
    load: Callable[[], RGBImage]  # gives the image, (H, W, 3) uint8

    @cached_property
    def image(self) -> RGBImage:
        """The image, (H, W, 3) uint8; a large one is read again when it is first asked for.

        Raises:
            DataError: the file cannot be read any more.
        """
        return self.load()

    @property
    def is_anomalous(self) -> bool:
        """Whether the score exceeds the threshold."""
        return self.threshold.is_exceeded(self.score)

    @cached_property
    def anomaly_map(self) -> AnomalyMap:
        """Anomaly score of each pixel, (H, W) float32; comparable between images of one model."""
        return fit_map(self.network_map, self.height, self.width)

    @cached_property
    def mask(self) -> Mask:
        """Anomalous regions, (H, W) bool."""
        return anomaly_mask(self.anomaly_map, self.threshold)

    @cached_property
    def _levels(self) -> NDArray[np.uint8]:
        return heat_levels(self.anomaly_map, self.colour_range)

    def save(
        self,
        folder: Path | str,
        name: Path | str | None = None,
        *,
        kinds: Sequence[str] = KINDS,
        map_place: str | None = None,
    ) -> dict[str, str]:
        """Write the anomaly map, heatmap, overlay and mask, as `localize` does.

        Each file is complete or absent. Files of the same name are replaced.

        Args:
            folder: output folder, which is created if it is missing.
            name: name of the files without a suffix, relative to the folder of their kind. By
                default it is that of the image's own file.
            kinds: some of `KINDS`.
            map_place: path of the anomaly map in `folder`, instead of `maps/<name>.tiff`.

        Returns:
            Paths relative to `folder`, by `map`, `heatmap`, `overlay` and `mask`.

        Raises:
            DataError: the image comes from no file, and no name is given; or a large image cannot
                be read again.
            OutputError: a file cannot be written.
        """
        if name is None and self.path is None:
            raise DataError("an image that comes from no file needs a name to be saved under")
        stem = Path(name) if name is not None else Path((self.path or Path()).stem)
        root, outputs = Path(folder), dict[str, str]()
        # All is drawn before anything is written: what fails here leaves no file behind.
        anomaly_map, mask = self.anomaly_map, self.mask
        drawn = overlay(self.image, self._levels, mask) if "overlays" in kinds else None
        if "maps" in kinds:
            outputs["map"] = map_place or place("maps", stem, ".tiff")
            write_tiff(root / outputs["map"], anomaly_map)
        if "heatmaps" in kinds:
            outputs["heatmap"] = place("heatmaps", stem, ".png")
            write_png(root / outputs["heatmap"], self._levels, palette=PALETTE)
        if drawn is not None:
            outputs["overlay"] = place("overlays", stem, ".png")
            write_png(root / outputs["overlay"], drawn)
        if "masks" in kinds:
            outputs["mask"] = place("masks", stem, ".png")
            write_png(root / outputs["mask"], mask)
        return outputs

    def record(self, outputs: dict[str, str] | None = None) -> dict[str, Any]:
        """List score, verdict and size as plain JSON values, as in a line of the manifest."""
        return {
            "score": self.score,
            "is_anomalous": self.is_anomalous,
            "anomalous_share": float(self.mask.mean()),
            "height": self.height,
            "width": self.width,
            "outputs": outputs or {},
            **({} if self.nearest is None else {"nearest": self.nearest.record()}),
        }


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


def place(kind: str, stem: Path, suffix: str) -> str:
    """Name the file of one kind of output for an image, relative to the output folder."""
    return f"{kind}/{stem.as_posix()}{suffix}"


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
    """Predict image files in their order; a file that cannot be read gives its error.

    Threads decode the next batches while the network works on the current one. Of images so large
    that these batches would take more than `_KEPT_BYTES`, only the size for the network is kept.
    Who needs such an image, such as for an overlay, decodes it again.
    """
    # Two batches are decoded ahead, one is in the network, two are drawn and written.
    largest = _KEPT_BYTES // (5 * view.batch_size)

    def read(position: int) -> "_ReadImage | DataError":
        path = paths[position]
        try:
            with name_shortage(f"cannot read {path}"):
                image = decode(path)
                prepared = _prepare(image, view, position, path)
        except DataError as error:
            return error
        again = partial(_decode_again, decode, path, image.shape)
        return prepared if image.nbytes <= largest else prepared._replace(load=again)

    with ThreadPoolExecutor(view.workers) as pool:
        ahead = ordered_map(pool, read, range(len(paths)), limit=2 * view.batch_size)
        for results in _batched(ahead, view.batch_size):
            batch = [result for result in results if isinstance(result, _ReadImage)]
            predictions = _predict(batch, view, with_latents=with_latents)
            for result in results:
                yield result if isinstance(result, DataError) else next(predictions)


def predict_image(
    image: RGBImage, view: View, *, path: Path | None = None, with_latents: bool = False
) -> Prediction:
    """Predict one image (H, W, 3)."""
    (result,) = _predict([_prepare(image, view, 0, path)], view, with_latents=with_latents)
    if isinstance(result, DataError):
        raise result
    return result


class _ReadImage(NamedTuple):
    """A decoded image, at its own size and at that of the network."""

    position: int  # index in the input
    path: Path | None
    height: int  # of the image itself
    width: int
    load: Callable[[], RGBImage]  # gives the image itself, (H, W, 3)
    resized: RGBImage  # (S, S, 3)


def _prepare(image: RGBImage, view: View, position: int, path: Path | None) -> _ReadImage:
    side = view.mapper.size
    height, width, _channels = image.shape
    resized = resize_image(image, side, side)
    return _ReadImage(position, path, height, width, lambda: image, resized)


def _decode_again(
    decode: Callable[[Path], RGBImage], path: Path, shape: tuple[int, ...]
) -> RGBImage:
    image = decode(path)
    if image.shape != shape:
        raise DataError(f"{path} has changed since it was first read")
    return image


def _predict(
    batch: list[_ReadImage], view: View, *, with_latents: bool
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
        score = float(network_map.max())
        if not math.isfinite(score):
            yield DataError(f"{item.path or 'the image'}: its score is {score}, which is no number")
            continue
        yield Prediction(
            height=item.height,
            width=item.width,
            load=item.load,
            network_map=network_map,
            score=score,
            threshold=view.threshold,
            colour_range=view.colour_range,
            position=item.position,
            path=item.path,
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
        _box_around(*at, height, width),
        view.memory_images[int(memory.image[number])],
        _box_around(int(memory.row[number]), int(memory.column[number]), height, width),
        float((memory.patches[number] - feature).norm() / memory.scale),
    )


def _box_around(row: int, column: int, height: int, width: int) -> Box:
    """Find the box of a patch on a grid (height, width); it covers 3 x 3 places."""
    edges = ((column - 1) / width, (row - 1) / height, (column + 2) / width, (row + 2) / height)
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    return left, top, right, bottom


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Convert images (B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1], in channels_last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32).div_(255)


def to_image(image: Tensor) -> RGBImage:
    """Convert an image (3, H, W) in [0, 1] to (H, W, 3) uint8."""
    levels = image.clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())


def ordered_map(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], *, limit: int
) -> Iterator[R]:
    """Map a function over items in threads, in their order.

    Unlike with `pool.map`, at most `limit` items are in progress, so that memory is bounded.
    """
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= limit:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
