"""Image files -> anomaly maps, decoding and drawing at once, for `localize` and `evaluate`."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from anomaly_cli.calibration import parse_threshold
from anomaly_cli.checkpoint import LoadedModel, ModelRecord, load_model
from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.names import BASELINES, FUSED, Scores
from anomaly_cli.data.normal import to_tensor
from anomaly_cli.device import resolve_device
from anomaly_cli.drawing import MapMaker
from anomaly_cli.errors import CheckpointError, DataError
from anomaly_cli.files.images import AnomalyMap, RGBImage, read_image, resize_image
from anomaly_cli.latents import ImageLatents, describe_latents, latent_colour_range
from anomaly_cli.maps import MapSpec, fuse_with, parse_map_spec
from anomaly_cli.masks import Threshold, parse_outline

T = TypeVar("T")
R = TypeVar("R")


class Localizer(NamedTuple):
    """A trained model, ready to draw one anomaly map with its calibration."""

    loaded: LoadedModel
    maker: MapMaker
    spec: MapSpec
    scores: Scores
    threshold: Threshold
    colour_range: tuple[float, float]  # map values at the two ends of the colour bar
    latent_colour_range: tuple[float, float]  # the same for the map of one latent

    @property
    def map_name(self) -> str:
        """What reports call the map, such as `reconstruction, position scores`."""
        return str(self.spec) if self.scores == "raw" else f"{self.spec}, {self.scores} scores"


def open_localizer(path: Path, config: MapConfig) -> Localizer:
    """Load a model and choose its map and threshold: as calibrated, or as the settings say.

    Raises:
        CheckpointError: the model cannot be read, or is not calibrated for the map.
        ConfigError: no such map, threshold rule or outline.
        DeviceError: the device is not there.
    """
    device = resolve_device(config.device)
    loaded = load_model(path)
    record = loaded.record
    spec = _choose_map(record, config)
    if str(spec) not in record.calibrations:
        raise CheckpointError(f"{loaded.path} is not calibrated for {spec}; train it anew")
    scores = config.scores or record.default_scores
    scale, calibration = record.calibrations[str(spec)].select(scores)
    rule = parse_threshold(config.threshold or record.default_threshold)
    threshold = calibration.threshold(rule, record.data["held_out_parts"])
    if config.outline is not None:
        threshold = threshold._replace(outline=parse_outline(config.outline))
    elif spec.is_halved and math.isfinite(threshold.outline):
        threshold = threshold._replace(normal_level=calibration.normal_level)
    maker = MapMaker(
        loaded.vae,
        record.statistics,
        record.model.image_size,
        device,
        settings=record.settings,
        scale=scale,
    )
    # Maps of latents are raw. At the stored rule, so that it depends on the model alone.
    raw = record.calibrations[str(spec.parts[0])].raw
    stored = raw.threshold(parse_threshold(record.default_threshold))
    return Localizer(
        loaded=loaded,
        maker=maker,
        spec=spec,
        scores=scores,
        threshold=threshold,
        colour_range=calibration.colour_range(threshold),
        latent_colour_range=latent_colour_range(raw.colour_range(stored), record.model.latent_dim),
    )


def _choose_map(record: ModelRecord, config: MapConfig) -> MapSpec:
    default = parse_map_spec(record.default_map, record.model)
    if config.source is None and config.attention is None and config.layer is None:
        return default
    if config.source in BASELINES:
        return MapSpec(config.source)
    attention = default.parts[0]
    chosen = MapSpec(config.attention or attention.source, config.layer or attention.layer)
    if config.source == FUSED:
        chosen = fuse_with(chosen)
    return parse_map_spec(str(chosen), record.model)


class ReadImage(NamedTuple):
    """An image on its way to the network."""

    position: int  # in the input
    image: RGBImage  # (H, W, 3), at its own size
    resized: RGBImage  # (S, S, 3)


class LocalizedImage(NamedTuple):
    """An image with its anomaly map."""

    position: int
    image: RGBImage  # (H, W, 3), at its own size
    anomaly_map: AnomalyMap  # (S, S), at the network's size
    score: float  # image-level anomaly score: the maximum of the map
    latents: ImageLatents | None = None  # where they were asked for


def localize_files(
    paths: Sequence[Path],
    maker: MapMaker,
    spec: MapSpec,
    *,
    batch_size: int,
    workers: int,
    with_latents: bool = False,
    decode: Callable[[Path], RGBImage] = read_image,
) -> Iterator[LocalizedImage | DataError]:
    """Anomaly maps of image files in their order; a file that cannot be read gives its error.

    Threads decode the next batches while the network works on this one. At most three batches of
    decoded images are alive.
    """

    def read(position: int) -> ReadImage | DataError:
        try:
            image = decode(paths[position])
        except DataError as error:
            return error
        return ReadImage(position, image, resize_image(image, maker.size, maker.size))

    with ThreadPoolExecutor(workers) as pool:
        ahead = ordered_map(pool, read, range(len(paths)), limit=2 * batch_size)
        for results in _batched(ahead, batch_size):
            batch = [result for result in results if isinstance(result, ReadImage)]
            drawn = _draw(batch, maker, spec, with_latents=with_latents)
            for result in results:
                yield result if isinstance(result, DataError) else next(drawn)


def _draw(
    batch: list[ReadImage], maker: MapMaker, spec: MapSpec, *, with_latents: bool
) -> Iterator[LocalizedImage]:
    if not batch:
        return
    images = to_tensor(np.stack([item.resized for item in batch]))
    latents: Sequence[ImageLatents | None] = [None] * len(batch)
    if with_latents:
        drawn = maker.with_latents(images, spec)
        maps = drawn.anomaly_maps
        latents = describe_latents(drawn, maker.statistics.latent, maker.settings.smoothing)
    else:
        maps = maker(images, [spec])[spec]
    for item, anomaly_map, of_image in zip(batch, maps.numpy(), latents, strict=True):
        score = float(anomaly_map.max())
        yield LocalizedImage(item.position, item.image, anomaly_map, score, of_image)


def ordered_map(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], *, limit: int
) -> Iterator[R]:
    """`pool.map` that keeps at most `limit` items under way, so that memory stays bounded."""
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
