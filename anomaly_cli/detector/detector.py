"""A trained model with one anomaly map and its threshold, ready to use."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.names import BASELINES, FUSED, MEMORY, MapSource, Scores
from anomaly_cli.config.values import ThresholdRule, parse_threshold
from anomaly_cli.detector.checkpoint import (
    LoadedModel,
    ModelRecord,
    NotCalibratedError,
    load_calibrations,
    load_model,
)
from anomaly_cli.detector.device import resolve_device
from anomaly_cli.detector.latents import (
    LatentSelection,
    latent_colour_range,
    latent_stretch,
    select_latents,
    traverse,
)
from anomaly_cli.detector.maps import MapSpec, fused_map, map_specs, parse_map_spec
from anomaly_cli.detector.predict import (
    View,
    predict_files,
    predict_image,
    to_image,
    to_tensor,
)
from anomaly_cli.detector.prediction import Prediction
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.errors import CheckpointError, ConfigError, DataError
from anomaly_cli.files.images import ColourRange, RGBImage, image_from_array
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image
from anomaly_cli.pictures.latents import Scale
from models.config import Attention, OneClassConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Detector:
    """A trained model that computes one kind of anomaly map and compares it with one threshold.

    Nothing is printed. A detector never changes after it is loaded, so several threads may predict
    with it at once. `Detector.load` and `anomaly_cli.train` make one.
    """

    path: Path  # of the model file
    sha256: str  # of the model file, 64 hexadecimal digits
    record: ModelRecord
    spec: MapSpec
    scores: Scores
    view: View
    latent_colour_range: ColourRange  # map values at the ends of the colour bar of one latent

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: str = "auto",
        map: MapSource | None = None,  # noqa: A002 - the name of the option
        threshold: ThresholdRule | float | str | None = None,
        batch_size: int = 16,
        workers: int = 2,
    ) -> "Detector":
        """Load a model that `train` wrote.

        `Detector.open` does the same, and takes all settings of the map.

        Args:
            path: `model.safetensors`, or the folder that holds it.
            device: auto, cpu, cuda, cuda:N or mps.
            map: fused, memory, appearance, attention, reconstruction, ssim or centre_prior; None
                is the map that training chose.
            threshold: a map value, or a rule such as `image-fpr=0.05`; None is the stored rule.
            batch_size: images that the network sees at once.
            workers: threads that decode images.

        Raises:
            CheckpointError: the model cannot be read, or is not calibrated for the map.
            ConfigError: there is no such map or rule. It is a ValueError too.
            DeviceError: the device is not available.
        """
        if map is not None and map not in get_args(MapSource):
            raise ConfigError(f"no map {map}; there are {', '.join(get_args(MapSource))}")
        config = MapConfig(
            source=map,
            threshold=parse_threshold(threshold) if isinstance(threshold, str) else threshold,
            batch_size=batch_size,
            workers=workers,
            device=device,
        )
        return cls.open(Path(path), config)

    @classmethod
    def open(cls, path: Path, config: MapConfig) -> "Detector":
        """Load a model, with its own map and threshold unless the settings name others.

        Raises:
            CheckpointError: the model cannot be read.
            NotCalibratedError: the model has no calibration for the map.
            ConfigError: the model has no such map.
            DeviceError: the device is not available.
        """
        device = resolve_device(config.device)
        return cls.of(load_model(path), config, device)

    @classmethod
    def of(cls, loaded: LoadedModel, config: MapConfig, device: torch.device) -> "Detector":
        """Make a detector of a model in memory, as `Detector.open` does.

        Raises:
            CheckpointError: the model was calibrated on too few images for scores per position.
            NotCalibratedError: the model has no calibration for the map.
            ConfigError: the model has no such map.
        """
        record = loaded.record
        spec = _choose_map(record, config)
        stored = record.calibrations
        needed = {str(spec), str(spec.parts[0])}  # the first part is that of the latents
        if not needed <= stored.keys():
            stored = {**stored, **load_calibrations(loaded)}
        if not needed <= stored.keys():
            raise NotCalibratedError(loaded, spec)
        scores = config.scores or record.default_scores
        scale, calibration = stored[str(spec)].select(scores)
        rule = config.threshold if config.threshold is not None else record.default_threshold
        threshold = calibration.threshold(rule, record.data["held_out_parts"])
        if not math.isfinite(threshold.value):
            raise CheckpointError(f"{loaded.path} has no finite threshold for {spec}")
        if config.outline is not None:
            threshold = threshold._replace(outline=config.outline)
        elif spec.is_halved and math.isfinite(threshold.outline):
            threshold = threshold._replace(normal_level=calibration.normal_level)
        # Maps of latents are raw, so the range is raw too. It is computed from the stored rule, so
        # that the colours depend on the model alone.
        raw = stored[str(spec.parts[0])].raw
        range_of_map = raw.colour_range(raw.threshold(record.default_threshold))
        colours = calibration.colour_range(threshold)
        return cls(
            path=loaded.path,
            sha256=loaded.sha256,
            record=replace(record, calibrations=stored),
            spec=spec,
            scores=scores,
            view=View(
                loaded.mapper(device, scale=scale),
                spec,
                threshold,
                colours,
                config.batch_size,
                config.workers,
                record.data.get("memory_images", ()),
            ),
            latent_colour_range=latent_colour_range(range_of_map, record.model.latents),
        )

    @property
    def category(self) -> str:
        """Category that the model was trained on, such as `bottle`."""
        return self.record.category

    @property
    def network(self) -> OneClassConfig:
        """Shape of the network, such as `image_size`."""
        return self.record.model

    @property
    def latent_kinds(self) -> tuple[str, ...]:
        """Kind of synthetic defect that each latent responds to most; empty without guidance."""
        return self.record.latent_kinds

    @property
    def threshold(self) -> Threshold:
        """Map value above which a region is anomalous, its rule, and where regions end."""
        return self.view.threshold

    @property
    def colour_range(self) -> ColourRange:
        """Map values at the two ends of the colour bar, the same for all images."""
        return self.view.colour_range

    @property
    def map_name(self) -> str:
        """Name of the map in reports, such as `reconstruction, position scores`."""
        return str(self.spec) if self.scores == "raw" else f"{self.spec}, {self.scores} scores"

    def predict(
        self, image: NDArray[Any] | Path | str, *, with_latents: bool = False
    ) -> Prediction:
        """Compute the anomaly map of one image.

        Args:
            image: an array (H, W) or (H, W, 3), grey or RGB, of uint8, uint16, or float in [0, 1];
                or the path of an image file.
            with_latents: also compute the map of each latent.

        Raises:
            DataError: the file cannot be read.
            ImageValueError: the array has another shape, or holds values that are out of range. It
                is a ValueError too.
            ImageTypeError: the array has another type. It is a TypeError too.
            ConfigError: latents are asked for, and the map has none.
        """
        if with_latents:
            self.select_latents("all")  # raises an error if the map has none
        if isinstance(image, Path | str):
            path = Path(image)
            return predict_image(read_image(path), self.view, path=path, with_latents=with_latents)
        return predict_image(image_from_array(image), self.view, with_latents=with_latents)

    def predict_files(
        self,
        paths: Iterable[Path | str],
        *,
        with_latents: bool = False,
        on_error: Callable[[DataError], object] | None = None,
    ) -> Iterator[Prediction]:
        """Compute the anomaly maps of image files, in their order.

        Threads decode the next images while the network works. At most three batches of images
        are in memory; large ones are read again when they are asked for.

        Args:
            paths: image files.
            with_latents: also compute the map of each latent.
            on_error: called for a file that cannot be read, which is then left out. Without it
                the error is raised, and the files after it are not read.

        Raises:
            DataError: a file cannot be read, and there is no `on_error`.
            ConfigError: latents are asked for, and the map has none.
        """
        for result in self.predict_all(map(Path, paths), with_latents=with_latents):
            if isinstance(result, Prediction):
                yield result
            elif on_error is None:
                raise result
            else:
                on_error(result)

    def predict_all(
        self,
        paths: Iterable[Path],
        *,
        with_latents: bool = False,
        decode: Callable[[Path], RGBImage] = read_image,
    ) -> Iterator[Prediction | DataError]:
        """Compute the anomaly maps of image files, in their order.

        A file that cannot be read gives its error instead of a prediction.

        Raises:
            ConfigError: latents are asked for, and the map has none.
        """
        if with_latents:
            self.select_latents("all")
        return predict_files(list(paths), self.view, with_latents=with_latents, decode=decode)

    def select_latents(self, text: str) -> LatentSelection:
        """Read a choice of latents: `all`, `top:K` or numbers such as `3,7`.

        Raises:
            ConfigError: the text is none of these, or the map has no latents.
        """
        return select_latents(text, self.network.latents, self.spec)

    def expected(self, image: RGBImage) -> RGBImage | None:
        """Rebuild an image (H, W, 3) as the model takes it to be, (S, S, 3); None if it cannot."""
        side = self.network.image_size
        rebuilt = self.view.mapper.expected(to_tensor(np.array([resize_image(image, side, side)])))
        return None if rebuilt is None else to_image(rebuilt[0])

    @property
    def scale(self) -> Scale:
        """Colour scales of the pictures of latents."""
        return Scale(
            self.colour_range,
            self.latent_colour_range,
            latent_stretch(self.network.latents),
            self.latent_kinds,
        )

    def traverse(self, latents: Iterable[int]) -> NDArray[np.uint8]:
        """Decode images while one latent moves at a time, see `detector.latents.traverse`.

        Raises:
            ConfigError: the model has no latents that a decoder could show.
        """
        mapper = self.view.mapper
        if not isinstance(mapper, VAEMapper):
            raise ConfigError(f"a model of --method {self.network.method} has no latents to show")
        return traverse(mapper.vae, mapper.statistics.attention.latent, list(latents))


def _choose_map(record: ModelRecord, config: MapConfig) -> MapSpec:
    default = parse_map_spec(record.default_map, record.model)
    if config.source is None and config.attention is None and config.layer is None:
        return default
    if config.source is not None and config.source in {*BASELINES, MEMORY}:
        return parse_map_spec(config.source, record.model)
    if config.source == FUSED:
        return _choose_fused(record, config)
    if not record.model.layers:
        raise ConfigError(f"a model of {record.model.method} has no attention; it has {default}")
    *_, last = record.model.layers
    own = default.parts[0] if default.layer else MapSpec(Attention.EXACT.value, last)
    chosen = MapSpec(config.attention or own.source, config.layer or own.layer)
    return parse_map_spec(str(chosen), record.model)


def _choose_fused(record: ModelRecord, config: MapConfig) -> MapSpec:
    fused = fused_map(record.model)
    if fused is None:
        others = ", ".join(map(str, map_specs(record.model)))
        raise ConfigError(f"the network of {record.category} has no fused map; it has {others}")
    if config.attention not in {None, Attention.EXACT} or config.layer not in {None, fused.layer}:
        raise ConfigError(
            f"--map fused has the attention {fused.parts[0]} as a part; "
            f"use --map attention for another one"
        )
    return fused
