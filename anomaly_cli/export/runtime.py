"""Detector of an exported file, computed by ONNX Runtime. Loads no torch.

The graph gives maps at the network's size. Decoding, resizing to the image, outlines and pictures
are the code of `localize`, so both engines write the same files.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.detector.prediction import NearestPatch, Prediction, box_around
from anomaly_cli.detector.reading import ReadImage, Reading, predict_ahead, to_prediction
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import CheckpointError, ConfigError, DataError
from anomaly_cli.export.pruning import prune
from anomaly_cli.export.record import KEY, ExportRecord
from anomaly_cli.files.images import AnomalyMap, ColourRange, RGBImage
from anomaly_cli.files.read import read_image

if TYPE_CHECKING:
    import onnxruntime

INSTALL = "pip install 'anomaly-cli[onnx]'"
_OPTIONS = {
    "source": "--map",
    "attention": "--attention",
    "layer": "--target-layer",
    "scores": "--scores",
    "threshold": "--threshold",
    "outline": "--outline",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxDetector:
    """An exported model with its map and threshold, as `Detector` for `localize`."""

    session: "onnxruntime.InferenceSession"
    record: ExportRecord
    batch_size: int
    workers: int  # threads that decode

    @classmethod
    def open(cls, path: Path, config: MapConfig) -> "OnnxDetector":
        """Load a file that `export` wrote.

        Raises:
            CheckpointError: the file is missing, damaged, or was not written by `export`.
            ConfigError: ONNX Runtime is not installed, or the settings name another map,
                threshold or device.
        """
        for name, option in _OPTIONS.items():
            if getattr(config, name) is not None:
                raise ConfigError(
                    f"{option} needs the model that train wrote: {path} has one map and threshold"
                )
        if config.device not in {"auto", "cpu"}:
            raise ConfigError(f"--engine onnxruntime computes on the CPU, not on {config.device}")
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist; expected a file that export wrote")
        record, content = _read_file(path)
        return cls(
            session=open_session(content, str(path)),
            record=record,
            batch_size=config.batch_size,
            workers=config.workers,
        )

    @property
    def category(self) -> str:
        """Category that the model was trained on, such as `bottle`."""
        return self.record.category

    @property
    def spec(self) -> str:
        """Name of the map."""
        return self.record.map

    @property
    def scores(self) -> str:
        """Scale of the map: raw, global or position."""
        return self.record.scores

    @property
    def threshold(self) -> Threshold:
        """Map value above which a region is anomalous, its rule, and where regions end."""
        return self.record.threshold

    @property
    def colour_range(self) -> ColourRange:
        """Map values at the two ends of the colour bar."""
        return self.record.colour_range

    @property
    def sha256(self) -> str:
        """SHA-256 of the model file that was exported."""
        return self.record.model_sha256

    def predict_all(
        self, paths: Iterable[Path], *, decode: Callable[[Path], RGBImage] = read_image
    ) -> Iterator[Prediction | DataError]:
        """Compute the anomaly maps of image files, in their order.

        A file that cannot be read gives its error instead of a prediction.
        """
        reading = Reading(self.record.image_size, self.batch_size, self.workers)
        return predict_ahead(list(paths), reading, self._predict, decode=decode)

    def _predict(self, batch: list[ReadImage]) -> Iterator[Prediction | DataError]:
        """Predict a batch; an image whose score is not a finite number gives an error."""
        if not batch:
            return
        names = _needed(self.record)
        images = np.stack([item.resized for item in batch])
        results = dict(zip(names, run_graph(self.session, names, images), strict=True))
        for place, item in enumerate(batch):
            network_map: AnomalyMap = results["network_map"][place]
            yield to_prediction(
                item,
                network_map,
                threshold=self.threshold,
                colour_range=self.colour_range,
                nearest=self._nearest(network_map, results, place),
            )

    def _nearest(
        self, network_map: AnomalyMap, results: dict[str, Any], place: int
    ) -> NearestPatch | None:
        """Describe the normal patch that the graph found for image number `place`."""
        if self.record.patch_grid is None:
            return None
        height, width = self.record.patch_grid
        row, column = np.unravel_index(int(network_map.argmax()), network_map.shape)
        side = len(network_map)
        number, of_row, of_column = (int(value) for value in results["nearest"][place])
        return NearestPatch(
            box_around(int(row) * height // side, int(column) * width // side, height, width),
            self.record.memory_images[number],
            box_around(of_row, of_column, height, width),
            float(results["distance"][place]),
        )


def open_session(content: bytes, name: str) -> "onnxruntime.InferenceSession":
    """Open a graph of ONNX.

    Args:
        content: the file.
        name: of the file, for errors.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        CheckpointError: the file is no ONNX file, or is damaged.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise ConfigError(f"onnxruntime is not installed: {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; they are raised as well
    # The same variable sets the threads of torch.
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    providers = ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    # A damaged file raises InvalidProtobuf, InvalidGraph, Fail, RuntimeException and others.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{name} is no ONNX file, or is damaged ({reason})") from error


def run_graph(session: "onnxruntime.InferenceSession", names: list[str], images: Any) -> list[Any]:
    """Compute the results of the given names for images (B, H, W, 3) uint8.

    Raises:
        CheckpointError: the graph is damaged.
    """
    try:
        results: list[Any] = session.run(names, {"images": images})
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the graph of the exported model failed: {reason}") from error
    return results


def _needed(record: ExportRecord) -> list[str]:
    """List the results of the graph that a prediction needs."""
    return ["network_map", *(("nearest", "distance") if record.patch_grid else ())]


def _read_file(path: Path) -> tuple[ExportRecord, bytes]:
    """Read the metadata of a file, and the part of its graph that predictions need."""
    onnx = _import_onnx()
    try:
        model = onnx.load_from_string(path.read_bytes())
    # A damaged file raises the DecodeError of protobuf, whose module is not ours to know.
    except Exception as error:
        raise CheckpointError(f"{path} is no ONNX file, or is damaged") from error
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in properties:
        raise CheckpointError(f"{path} was not written by anomaly-cli export")
    try:
        record = ExportRecord.from_json(properties[KEY])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} has wrong metadata: {error}; export it anew") from error
    missing = set(_needed(record)) - {output.name for output in model.graph.output}
    if missing or [each.name for each in model.graph.input] != ["images"]:
        raise CheckpointError(f"{path} lacks the inputs or outputs of a graph that export wrote")
    return record, prune(model, _needed(record))


def _import_onnx() -> Any:
    try:
        import onnx  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise ConfigError(f"onnx is not installed: {INSTALL}") from error
    return onnx
