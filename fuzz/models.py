"""Files of networks: models, calibrations beside them, training states, weights, and runs."""

import json
import shutil
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch

from anomaly_cli.detector.checkpoint import (
    CALIBRATIONS_FILE,
    load_model,
    save_calibrations,
    save_model,
)
from anomaly_cli.detector.detector import Detector
from anomaly_cli.disentangle.runs import load_vae, save_vae
from anomaly_cli.files.manifest import manifest_line
from anomaly_cli.training.pretrained import load_encoder_weights
from anomaly_cli.training.resume import resume_training, save_state
from fuzz.model_seeds import CONFIGS, build_model
from fuzz.mutation import EDGES, mutate_bytes, mutate_value
from fuzz.target import DamagedFile, Target
from models.config import ConvVAEConfig, VAEConfig
from models.conv import conv_vae
from models.resnet import ResNet18Encoder

_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "U64", "F8_E4M3")
_NUMBERS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf"), 1.0)
_SUFFIX = ".safetensors"


class Parts(NamedTuple):
    """A safetensors file in parts."""

    header: dict[str, Any]  # type, shape and place of each tensor, and JSON values
    values: bytes


def _split(content: bytes) -> Parts:
    (size,) = struct.unpack_from("<Q", content)
    return Parts(json.loads(content[8 : 8 + size]), content[8 + size :])


def _join(header: Mapping[str, Any], values: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def mutate_tensors(content: bytes, kind: str, random: Random) -> bytes:
    """Change a safetensors file: its JSON values, one of its tensors, or its first bytes.

    Args:
        content: a valid file.
        kind: key of the JSON values in its metadata.
        random: source of all choices.
    """
    header, values = _split(content)
    chance = random.random()
    if chance < 0.4:
        record = json.loads(header["__metadata__"][kind])
        for _ in range(random.choice((1, 1, 2))):
            record = mutate_value(record, random)
        return _join(header | {"__metadata__": {kind: json.dumps(record)}}, values)
    if chance < 0.85:
        for _ in range(random.choice((1, 1, 2))):
            if len(header) > 1:  # there are tensors beside the metadata
                header, values = _mutate_tensor(header, values, random)
        return _join(header, values)
    head = content[: len(content) - len(values)]
    return mutate_bytes(head, [], random) + values


def _mutate_tensor(
    header: dict[str, Any], values: bytes, random: Random
) -> tuple[dict[str, Any], bytes]:
    """Give a tensor another type, shape, place or name, or other numbers."""
    names = sorted(set(header) - {"__metadata__"})
    # Of hundreds of weights, most are alike; the statistics and scales are not.
    rare = [name for name in names if not name.startswith("vae.")]
    name = random.choice(rare if rare and random.random() < 0.8 else names)
    own = header[name]
    start, end = own["data_offsets"]
    match random.randrange(6):
        case 0:
            return {key: value for key, value in header.items() if key != name}, values
        case 1:
            other = header[random.choice(names)]
            return header | {name: other}, values
        case 2:
            return header | {name: own | {"dtype": random.choice(_TYPES)}}, values
        case 3:
            return header | {name: own | {"shape": _other_shape(own["shape"], random)}}, values
        case 4:
            return _replaced(header, values, name, random)
        case _:
            number = struct.pack("<f", random.choice(_NUMBERS))
            if own["dtype"] != "F32" or start == end:
                number = random.choice(EDGES).to_bytes(8, "little")
            place = (
                start
                if random.random() < 0.5
                else start + (end - start) // len(number) // 2 * len(number)
            )
            return header, values[:place] + number + values[place + len(number) :]


def _other_shape(shape: list[int], random: Random) -> list[int]:
    count = int(np.prod(shape))
    shapes = [
        [count],
        [1, *shape],
        [*shape, 1],
        shape[::-1],
        [1] * 6 + [count],
        [],
        [0],
        [0, 2**40],
    ]
    return random.choice([*shapes, [random.choice(EDGES)] * 2])


def _replaced(
    header: dict[str, Any], values: bytes, name: str, random: Random
) -> tuple[dict[str, Any], bytes]:
    """Put a new tensor of any small shape at the end, and let the old one be read by no name."""
    shape = [random.choice((0, 1, 2, 3, 7, 12, 64)) for _ in range(random.randrange(5))]
    number = random.choice(_NUMBERS)
    content = struct.pack("<f", number) * int(np.prod(shape))
    place = [len(values), len(values) + len(content)]
    entry = {"dtype": "F32", "shape": shape, "data_offsets": place}
    unread = {f"{name}.old": header[name]}
    return header | unread | {name: entry}, values + content


@cache
def _model_seeds() -> list[bytes]:
    seeds = []
    with tempfile.TemporaryDirectory() as folder:
        for config in CONFIGS:
            vae, record = build_model(config)
            for scores in ("raw", "global", "position"):
                path = Path(folder) / f"model{_SUFFIX}"
                save_model(path, vae.state_dict(), replace(record, default_scores=scores))
                seeds.append(path.read_bytes())
    return seeds


def _draw_model(random: Random) -> DamagedFile:
    return DamagedFile(
        mutate_tensors(random.choice(_model_seeds()), "anomaly_cli", random), _SUFFIX
    )


def _read_model(path: Path) -> None:
    """Load a model and predict an image with it, as `localize` does."""
    detector = Detector.load(path, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    prediction = detector.predict(image, with_latents=detector.spec.has_latents)
    prediction.save(path.parent / "results", "x")
    manifest_line({"image": "x"} | prediction.record() | detector.threshold.record())
    if prediction.latents is not None:
        manifest_line(
            {"latents": list(map(prediction.latents.record, range(detector.network.latents)))}
        )
    if detector.spec.has_latents:
        detector.traverse(range(min(2, detector.network.latents)))


@cache
def _calibration_seed() -> tuple[bytes, bytes]:
    """Make a model, and the file of its calibrations of further maps."""
    with tempfile.TemporaryDirectory() as folder:
        vae, record = build_model(CONFIGS[0])
        path = Path(folder) / f"model{_SUFFIX}"
        save_model(path, vae.state_dict(), record)
        own = record.calibrations[record.default_map]
        save_calibrations(load_model(path), {"appearance": own})
        return path.read_bytes(), path.with_name(CALIBRATIONS_FILE).read_bytes()


def _draw_calibrations(random: Random) -> DamagedFile:
    content = mutate_tensors(_calibration_seed()[1], "anomaly_cli_calibrations", random)
    return DamagedFile(content, _SUFFIX)


def _read_calibrations(path: Path) -> None:
    place = path.parent / "model"
    place.mkdir(exist_ok=True)
    (place / f"model{_SUFFIX}").write_bytes(_calibration_seed()[0])
    shutil.copyfile(path, place / CALIBRATIONS_FILE)
    detector = Detector.load(place, device="cpu", map="appearance")
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    detector.predict(image).save(path.parent / "results", "x")


class _Trainer:
    """A network and its optimizer, as far as a training state holds them."""

    def __init__(self) -> None:
        self.network = torch.nn.Linear(3, 2)
        self.optimizer = torch.optim.Adam(self.network.parameters())

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


@cache
def _state_seed() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.pt"
        save_state(path, _Trainer(), {"epochs": 3}, [(1, 2.0)])
        return path.read_bytes()


def _draw_state(random: Random) -> DamagedFile:
    return DamagedFile(mutate_bytes(_state_seed(), [_state_seed()], random), ".pt")


def _read_state(path: Path) -> None:
    resume_training(path, _Trainer(), {"epochs": 3})


@cache
def _encoder() -> ResNet18Encoder:
    return ResNet18Encoder(VAEConfig(image_size=32))


@cache
def _weight_seeds() -> dict[str, bytes]:
    state = {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pth"
        torch.save(state, path)
        header = {
            "bn1.weight": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]},
            "__metadata__": {"x": "{}"},
        }
        return {".pth": path.read_bytes(), _SUFFIX: _join(header, bytes(256))}


def _draw_weights(random: Random) -> DamagedFile:
    suffix = random.choice((".pth", _SUFFIX))
    seed = _weight_seeds()[suffix]
    if suffix == _SUFFIX and random.random() < 0.6:
        return DamagedFile(mutate_tensors(seed, "x", random), suffix)
    return DamagedFile(mutate_bytes(seed, [seed], random), suffix)


def _read_weights(path: Path) -> None:
    load_encoder_weights(_encoder(), str(path))


@cache
def _run_seed() -> bytes:
    config = ConvVAEConfig(image_size=8, channels=(3,), hidden=4, latent_dim=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{_SUFFIX}"
        save_vae(path, conv_vae(config), config, {"method": "beta-vae", "seed": 0})
        return path.read_bytes()


def _draw_run(random: Random) -> DamagedFile:
    return DamagedFile(mutate_tensors(_run_seed(), "anomaly_cli_disentangle", random), _SUFFIX)


TARGETS = {
    "models": Target(_draw_model, _read_model),
    "calibrations": Target(_draw_calibrations, _read_calibrations),
    "states": Target(_draw_state, _read_state),
    "weights": Target(_draw_weights, _read_weights),
    "networks": Target(_draw_run, load_vae),
}
