"""Images that threads decode ahead of the network, in batches. Loads no torch."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from anomaly_cli.detector.prediction import NearestPatch, Prediction
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import DataError, name_shortage
from anomaly_cli.files.images import AnomalyMap, ColourRange, RGBImage
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image

if TYPE_CHECKING:
    from anomaly_cli.detector.latents import ImageLatents

T = TypeVar("T")
R = TypeVar("R")

_KEPT_BYTES = 1 << 29  # of decoded images that wait for the network or for the disk


class Reading(NamedTuple):
    """How many images are read at once, and for which network."""

    side: int  # pixels, of the network's input
    batch_size: int
    workers: int  # threads that decode


class ReadImage(NamedTuple):
    """A decoded image, at its own size and at that of the network."""

    position: int  # index in the input
    path: Path | None
    height: int  # of the image itself
    width: int
    load: Callable[[], RGBImage]  # gives the image itself, (H, W, 3)
    resized: RGBImage  # (S, S, 3)


def predict_ahead(
    paths: Sequence[Path],
    reading: Reading,
    predict: Callable[[list[ReadImage]], Iterator[Prediction | DataError]],
    *,
    decode: Callable[[Path], RGBImage] = read_image,
) -> Iterator[Prediction | DataError]:
    """Predict image files in their order; a file that cannot be read gives its error.

    Threads decode the next batches while the network works on the current one. Of images so large
    that these batches would take more than `_KEPT_BYTES`, only the size for the network is kept.
    Who needs such an image, such as for an overlay, decodes it again.

    Args:
        paths: image files.
        reading: sizes of images and batches.
        predict: gives one result for each image of a batch.
        decode: reads a file.
    """
    # Two batches are decoded ahead, one is in the network, two are drawn and written.
    largest = _KEPT_BYTES // (5 * reading.batch_size)

    def read(position: int) -> ReadImage | DataError:
        path = paths[position]
        try:
            with name_shortage(f"cannot read {path}"):
                image = decode(path)
                prepared = prepare(image, reading.side, position, path)
        except DataError as error:
            return error
        again = partial(_decode_again, decode, path, image.shape)
        return prepared if image.nbytes <= largest else prepared._replace(load=again)

    with ThreadPoolExecutor(reading.workers) as pool:
        ahead = ordered_map(pool, read, range(len(paths)), limit=2 * reading.batch_size)
        for results in _batched(ahead, reading.batch_size):
            batch = [result for result in results if isinstance(result, ReadImage)]
            predictions = predict(batch)
            for result in results:
                yield result if isinstance(result, DataError) else next(predictions)


def prepare(image: RGBImage, side: int, position: int, path: Path | None) -> ReadImage:
    """Resize an image (H, W, 3) for the network."""
    height, width, _channels = image.shape
    resized = resize_image(image, side, side)
    return ReadImage(position, path, height, width, lambda: image, resized)


def to_prediction(
    item: ReadImage,
    network_map: AnomalyMap,
    *,
    threshold: Threshold,
    colour_range: ColourRange,
    nearest: NearestPatch | None,
    latents: "ImageLatents | None" = None,
) -> Prediction | DataError:
    """Put together what an engine has computed of an image, or the error of a score like NaN."""
    score = float(network_map.max())
    if not math.isfinite(score):
        return DataError(f"{item.path or 'the image'}: its score is {score}, which is no number")
    return Prediction(
        height=item.height,
        width=item.width,
        load=item.load,
        network_map=network_map,
        score=score,
        threshold=threshold,
        colour_range=colour_range,
        position=item.position,
        path=item.path,
        nearest=nearest,
        latents=latents,
    )


def _decode_again(
    decode: Callable[[Path], RGBImage], path: Path, shape: tuple[int, ...]
) -> RGBImage:
    image = decode(path)
    if image.shape != shape:
        raise DataError(f"{path} has changed since it was first read")
    return image


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
