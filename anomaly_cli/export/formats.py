"""File formats of exported detectors: ONNX, and the exported programs of torch (`.pt2`)."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import anomaly_cli
from anomaly_cli.config.names import ExportFormat
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.errors import ConfigError
from anomaly_cli.export.graph import ExportedDetector, output_names
from anomaly_cli.export.record import KEY, ExportRecord
from anomaly_cli.export.runtime import INSTALL, open_session, run_graph
from anomaly_cli.files.versions import library_versions

OPSET = 18  # the first with the maximum that outlines need

Results = Mapping[str, NDArray[Any]]  # by name, see `ExportedDetector.forward`
Compute = Callable[[NDArray[np.uint8]], Results]  # for images (B, H, W, 3)


class Exported(NamedTuple):
    """An exported detector as bytes, and a function that computes with them."""

    content: bytes
    compute: Compute


def export_detector(detector: Detector, how: ExportFormat) -> Exported:
    """Export a detector, with its metadata.

    Args:
        detector: on the CPU.
        how: format of the file.

    Raises:
        ConfigError: the map cannot be computed in a graph, or a package is missing.
    """
    if how == "onnx":
        _require_onnx()
    names, text = output_names(detector), describe(detector, how).to_json()
    with _silent():
        program = _trace(ExportedDetector(detector))
        if how == "onnx":
            content = _to_onnx(program, names, text)
            session = open_session(content, "the exported graph")
            return Exported(
                content,
                lambda images: dict(zip(names, run_graph(session, names, images), strict=True)),
            )
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={KEY: text})
        loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()

    def compute(images: NDArray[np.uint8]) -> Results:
        with torch.no_grad():
            results = loaded(torch.from_numpy(images))
        return {name: result.numpy() for name, result in results.items()}

    return Exported(buffer.getvalue(), compute)


def describe(detector: Detector, how: ExportFormat) -> ExportRecord:
    """Describe a detector for the metadata of its file."""
    mapper = detector.view.mapper
    has_patches = "nearest" in output_names(detector)
    grid = mapper.size // 8 if isinstance(mapper, VAEMapper) else 0
    return ExportRecord(
        category=detector.category,
        map=str(detector.spec),
        scores=detector.scores,
        threshold=detector.threshold,
        colour_range=detector.colour_range,
        model_sha256=detector.sha256,
        image_size=mapper.size,
        patch_grid=(grid, grid) if has_patches else None,
        memory_images=tuple(detector.view.memory_images) if has_patches else (),
        versions=library_versions(["onnx", "onnxruntime"] if how == "onnx" else [])
        | {"torch": torch.__version__, "anomaly_cli": anomaly_cli.__version__},
    )


def _trace(module: ExportedDetector) -> torch.export.ExportedProgram:
    """Trace the module for any number of images, of any size."""
    # No size may equal another one or the network's, or it would be taken to be the same.
    example = torch.zeros(3, 70, 90, 3, dtype=torch.uint8)
    free = torch.export.Dim.DYNAMIC
    # The loops of an earlier trace are remembered with its sizes, which would then be required.
    torch.compiler.reset()
    with torch.no_grad():
        return torch.export.export(
            module, (example,), dynamic_shapes=({0: free, 1: free, 2: free},), strict=False
        )


def _to_onnx(program: torch.export.ExportedProgram, names: list[str], text: str) -> bytes:
    onnx_program = torch.onnx.export(
        program, (), input_names=["images"], output_names=names, opset_version=OPSET, dynamo=True,
        verbose=False,
    )  # fmt: skip
    assert onnx_program is not None  # noqa: S101 - with dynamo there is always one
    onnx_program.model.metadata_props[KEY] = text
    content: bytes = onnx_program.model_proto.SerializeToString()
    return content


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401, PLC0415 - of an extra
        import onnxruntime  # noqa: F401, PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: {INSTALL}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep remarks of the exporters to themselves: the check tells whether the file is right."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
