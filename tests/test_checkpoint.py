"""The model file: complete, deterministic, and clear about what is wrong with it."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from anomaly_cli.config.values import ThresholdRule
from anomaly_cli.detector.calibration import calibrate_map
from anomaly_cli.detector.checkpoint import (
    CALIBRATIONS_FILE,
    ModelRecord,
    load_calibrations,
    load_model,
    save_calibrations,
    save_model,
)
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.fusion import MapSettings
from anomaly_cli.detector.maps import DEFINITIONS
from anomaly_cli.detector.masks import MarkedMap
from anomaly_cli.detector.normal.appearance import PlaceAppearance
from anomaly_cli.detector.normal.mixture import Mixture
from anomaly_cli.detector.normal.statistics import NormalStatistics
from anomaly_cli.detector.scales import ScoreScale
from anomaly_cli.errors import CheckpointError, OutputError
from anomaly_cli.files.tensors import read_state, write_state
from models.build import one_class_vae, with_weights
from models.config import VAEConfig
from models.resnet import resnet18_vae
from models.statistics import AttentionStatistics, LatentStatistics, LocalStatistics
from models.vae import VAE

CONFIG = VAEConfig(image_size=32, latent_dim=3)
MAP = "diff_mahal@layer4"
ONE, TWO = np.ones((1, 1), np.float32), np.full((1, 1), 2, np.float32)
PAIRS = ((ONE, TWO), (TWO, ONE))
PARTS = DEFINITIONS["fused"].parts
SCALES = {name: ScoreScale(*pair) for name, pair in zip(PARTS, PAIRS, strict=True)}


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    return resnet18_vae(CONFIG)


@pytest.fixture
def record() -> ModelRecord:
    maps = list(np.arange(48, dtype=np.float32).reshape(3, 4, 4))
    return ModelRecord(
        category="disc",
        model=CONFIG,
        statistics=NormalStatistics(
            AttentionStatistics(
                LatentStatistics(torch.arange(3).double(), torch.ones(3).double() / 3),
                LocalStatistics(
                    torch.rand(3, 1, 1),
                    torch.rand(3, 1, 1),
                    torch.rand(3),
                    torch.rand(3),
                    torch.rand(1, 1, 3, 3),
                ),
            ),
            appearance=PlaceAppearance(torch.rand(12, 32, 32), torch.rand(32, 32, 12, 12)),
        ),
        calibrations={MAP: calibrate_map(maps, 2, [MarkedMap(maps[0], maps[0] > 12)])},
        default_map=MAP,
        default_threshold=ThresholdRule("image-fpr", 0.05),
        default_scores="global",
        settings=MapSettings(1.5, SCALES),
        latent_kinds=("hole", "scratch", "hole"),
        training={"seed": 0, "best_epoch": 3},
        data={"fingerprint": "ab", "fit": 8, "held_out": 2, "held_out_parts": 2},
    )


@pytest.fixture
def model_file(tmp_path: Path, vae: VAE, record: ModelRecord) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, vae.state_dict(), record)
    return path


def test_everything_comes_back(model_file: Path, vae: VAE, record: ModelRecord) -> None:
    loaded = load_model(model_file)
    assert loaded.record.model == CONFIG
    assert loaded.record.category == "disc"
    assert loaded.record.training == record.training
    assert loaded.record.data == record.data
    assert loaded.record.default_threshold == record.default_threshold
    before, after = record.statistics.attention, loaded.record.statistics.attention
    assert after.latent.mean.dtype == torch.float64
    assert before.local is not None
    assert after.local is not None
    for written, read in zip(
        (*before.latent, *before.local), (*after.latent, *after.local), strict=True
    ):
        assert torch.equal(written, read)
    calibration = loaded.record.calibrations[MAP]
    np.testing.assert_array_equal(calibration.raw.maxima, [15, 31, 47])
    scales = loaded.record.settings.scales
    assert list(scales) == list(SCALES)
    for name in PARTS:
        for written, read in zip(SCALES[name], scales[name], strict=True):
            np.testing.assert_array_equal(written, read)
    assert calibration.raw.outline == record.calibrations[MAP].raw.outline > 12
    assert loaded.record.default_scores == "global"
    for scores in ("global", "position"):
        for written, read in zip(
            record.calibrations[MAP].select(scores), calibration.select(scores), strict=True
        ):
            for a, b in zip(vars_of(written), vars_of(read), strict=True):
                np.testing.assert_array_equal(a, b)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded.network(images).logits, vae.eval()(images).logits)
    assert not loaded.network.training


def vars_of(part: object) -> list[np.ndarray]:
    """List the arrays of a scale or of a calibration."""
    return list(part) if isinstance(part, tuple) else list(vars(part).values())


def test_a_folder_stands_for_its_model_file(model_file: Path) -> None:
    assert load_model(model_file.parent).path == model_file


def test_same_content_same_bytes(
    model_file: Path, tmp_path: Path, vae: VAE, record: ModelRecord
) -> None:
    again = tmp_path / "elsewhere" / "model.safetensors"
    save_model(again, vae.state_dict(), record)
    assert again.read_bytes() == model_file.read_bytes()
    assert load_model(again).sha256 == load_model(model_file).sha256


def rewrite(path: Path, change: str, value: object) -> None:
    """Change one entry of the header, or drop a tensor."""
    with safe_open(path, framework="pt") as stream:
        header = json.loads(stream.metadata()["anomaly_cli"])
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    if change == "drop":
        del tensors[str(value)]
    elif change == "reshape":
        tensors[str(value)] = torch.zeros(7)
    else:
        header[change] = value
    save_file(tensors, path, metadata={"anomaly_cli": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [
        ("format_version", 99, "format version 99.*reads 12; train the model anew"),
        ("drop", "vae.encoder.mu.weight", "encoder.mu.weight"),
        ("drop", "statistics.latent.mean", "statistics.latent.mean"),
        ("drop", "statistics.local.variance", "statistics.local.variance"),
        ("drop", "statistics.appearance.whitening", "statistics.appearance.whitening"),
        ("drop", "fusion.appearance.std", "fusion.appearance.std"),
        ("drop", f"calibration.{MAP}.raw.maxima", "maxima"),
        ("reshape", "vae.encoder.mu.bias", "encoder.mu.bias"),
        ("reshape", "statistics.latent.variance", "3 latents"),
        ("reshape", "statistics.appearance.mean", "12 or 18 statistics of appearance"),
        ("reshape", f"calibration.{MAP}.raw.quantiles", "wrong size"),
        ("reshape", f"calibration.{MAP}.raw.std", "floats of 2 dimensions expected"),
        ("model", {"network": "transformer"}, "no network transformer"),
        ("default_map", "gradcam@layer1", "gradcam@layer1"),
        ("model", {"image_size": 31}, "multiple of 32"),
        ("model", {"unknown": 1}, "unknown"),
    ],
)
def test_errors_name_the_damaged_part_and_the_file(
    model_file: Path, change: str, value: object, message: str
) -> None:
    rewrite(model_file, change, value)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(model_file)
    assert str(model_file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def mixture_file(tmp_path: Path, vae: VAE, record: ModelRecord) -> Path:
    """Save a model whose appearance is compared with a mixture over all places."""
    mixture = Mixture(torch.rand(5, 12), torch.rand(5, 12, 12), torch.rand(5))
    path = tmp_path / "model.safetensors"
    statistics = record.statistics._replace(appearance=mixture)
    save_model(path, vae.state_dict(), replace(record, statistics=statistics))
    return path


def test_appearance_with_wide_surroundings_comes_back(
    tmp_path: Path, vae: VAE, record: ModelRecord
) -> None:
    wide = PlaceAppearance(torch.rand(18, 32, 32), torch.rand(32, 32, 18, 18))
    path = tmp_path / "model.safetensors"
    statistics = record.statistics._replace(appearance=wide)
    save_model(path, vae.state_dict(), replace(record, statistics=statistics))
    read = load_model(path).record.statistics.appearance
    assert isinstance(read, PlaceAppearance)
    assert torch.equal(read.mean, wide.mean)
    assert torch.equal(read.whitening, wide.whitening)


def test_a_mixture_of_appearance_comes_back(mixture_file: Path) -> None:
    read = load_model(mixture_file).record.statistics.appearance
    assert isinstance(read, Mixture)
    assert [len(part) for part in read] == [5, 5, 5]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("mean", "12 or 18 statistics of appearance"),
        ("whitening", "12 or 18 statistics of appearance"),
        ("rarity", "rarity of each of 5"),
    ],
)
def test_a_mixture_of_another_shape_is_refused(mixture_file: Path, part: str, message: str) -> None:
    rewrite(mixture_file, "reshape", f"statistics.appearance.{part}")
    with pytest.raises(CheckpointError, match=message):
        load_model(mixture_file)


@pytest.mark.parametrize("content", [b"", b"hello, I am text\n", b"\x80\x04K\x01.", b"\x00" * 64])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a model file"):
        load_model(path)


def test_a_truncated_file_is_refused(model_file: Path) -> None:
    content = model_file.read_bytes()
    model_file.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="not a model file, or is damaged"):
        load_model(model_file)


def test_safetensors_of_another_tool_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not written by anomaly-cli"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        load_model(tmp_path / "nowhere")


def test_an_unwritable_place_leaves_nothing(tmp_path: Path, vae: VAE, record: ModelRecord) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        save_model(tmp_path / "file" / "model.safetensors", vae.state_dict(), record)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class _Evil:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_training_state_comes_back_and_never_runs_code(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    write_state(path, {"epoch": 3, "x": torch.ones(2)})
    state = read_state(path)
    assert state["epoch"] == 3
    assert torch.equal(state["x"], torch.ones(2))
    torch.save({"evil": _Evil(tmp_path / "touched")}, path)
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(path)
    assert not (tmp_path / "touched").exists()
    with pytest.raises(CheckpointError, match="nothing to resume"):
        read_state(tmp_path / "none.pt")


def test_no_pickle_is_in_the_file(model_file: Path, record: ModelRecord) -> None:
    """Everything but tensors is JSON."""
    with safe_open(model_file, framework="pt") as stream:
        header = json.loads(stream.metadata()["anomaly_cli"])
    assert header["default_threshold"] == str(record.default_threshold)
    assert header["fused_parts"] == list(SCALES)


def test_calibrations_beside_a_model_come_back(
    model_file: Path, tmp_path: Path, vae: VAE, record: ModelRecord
) -> None:
    """Nothing is read from a file that is missing, damaged, or of another model."""
    loaded, content = load_model(model_file), model_file.read_bytes()
    assert load_calibrations(loaded) == {}
    save_calibrations(loaded, {"hires@layer1": record.calibrations[MAP]})
    assert model_file.read_bytes() == content
    (found,) = (read := load_calibrations(loaded)).values()
    assert list(read) == ["hires@layer1"]
    for ours, theirs in zip(vars_of(found.raw), vars_of(record.calibrations[MAP].raw), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    save_model(model_file, vae.state_dict(), replace(record, category="other"))
    assert load_calibrations(load_model(model_file)) == {}
    nothing = replace(record.calibrations[MAP].raw, maxima=np.full(3, np.nan, np.float32))
    save_calibrations(loaded, {"x": replace(record.calibrations[MAP], raw=nothing)})
    assert load_calibrations(loaded) == {}
    (tmp_path / CALIBRATIONS_FILE).write_bytes(b"damaged")
    assert load_calibrations(loaded) == {}


@pytest.mark.parametrize(
    "name", ["vae.encoder.mu.bias", "statistics.latent.mean", "fusion.appearance.mean"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(model_file: Path, name: str, value: float) -> None:
    """With a score of NaN, every part would be normal."""
    tensors = load_file(model_file)
    tensors[name].view(-1)[0] = value
    with safe_open(model_file, framework="pt") as stream:
        header = stream.metadata()
    save_file(tensors, model_file, header)
    with pytest.raises(CheckpointError, match=f"{name} holds values that are not finite"):
        load_model(model_file)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", {}),
        ("data", {"fit": 8, "held_out": 2, "held_out_parts": 0}),
        ("data", {"fit": 8, "held_out": "2", "held_out_parts": 2}),
        ("data", {"fit": 8, "held_out": 2, "held_out_parts": 2, "memory_images": [1]}),
        ("data", 3),
        ("smoothing", "x"),
        ("smoothing", None),
        ("fused_parts", 3),
        ("fused_parts", ["x"]),
        ("default_threshold", 5),
        ("default_threshold", "0.5"),
        ("default_scores", "best"),
        ("default_map", ["x"]),
        ("latent_kinds", 1),
        ("training", None),
        ("category", 7),
        ("maps", {"a": 1}),
        ("model", []),
    ],
)
def test_fields_of_the_wrong_kind_are_refused(model_file: Path, field: str, value: object) -> None:
    rewrite(model_file, field, value)
    with pytest.raises(CheckpointError, match="is damaged or incomplete"):
        load_model(model_file)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("smoothing", -1, "smoothing must be from 0 to 32 pixels"),
        ("smoothing", float("nan"), "smoothing must be from 0 to 32 pixels"),
        ("smoothing", 1e9, "smoothing must be from 0 to 32 pixels"),
        ("smoothing", 10**400, "too large"),
        ("data", {"fit": 8, "held_out": 2, "held_out_parts": 10**400}, "held_out_parts"),
        (
            "data",
            {"fit": 8, "held_out": 2, "held_out_parts": 2, "memory_images": "abc"},
            "memory_images is str",
        ),
        ("latent_kinds", ["hole"], "one for each of 3 latents"),
    ],
)
def test_numbers_out_of_range_are_refused(
    model_file: Path, field: str, value: object, message: str
) -> None:
    rewrite(model_file, field, value)
    with pytest.raises(CheckpointError, match=message):
        load_model(model_file)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (f"calibration.{MAP}.raw.maxima", torch.ones(2, 2), "floats of 1 dimension"),
        (f"calibration.{MAP}.raw.maxima", torch.ones(2).long(), "floats of 1 dimension"),
        (f"calibration.{MAP}.raw.mean", torch.ones(1), "floats of 2 dimension"),
        ("fusion.appearance.std", -torch.ones(1, 1), "one positive deviation"),
        (f"calibration.{MAP}.raw.std", -torch.ones(1, 1), "std must be positive"),
        ("fusion.appearance.std", torch.ones(2, 2), "one positive deviation"),
        ("statistics.latent.variance", -torch.ones(3), "must not be negative"),
        ("statistics.latent.mean", torch.ones(3, 1), "floats of 1 dimension"),
        ("statistics.local.mean", torch.ones(3, 2, 2), r"shape \(3, 1, 1\) expected"),
        ("statistics.local.pooled_mean", torch.ones(4), r"shape \(3,\) expected"),
    ],
)
def test_tensors_of_another_kind_are_refused(
    model_file: Path, name: str, value: torch.Tensor, message: str
) -> None:
    """Each would end in a traceback once an image is seen."""
    with safe_open(model_file, framework="pt") as stream:
        header = stream.metadata()
    save_file(load_file(model_file) | {name: value}, model_file, header)
    with pytest.raises(CheckpointError, match=message):
        load_model(model_file)


def test_appearance_of_another_grid_is_refused(
    tmp_path: Path, vae: VAE, record: ModelRecord
) -> None:
    small = PlaceAppearance(torch.rand(12, 2, 2), torch.rand(2, 2, 12, 12))
    statistics = record.statistics._replace(appearance=small)
    save_model(tmp_path / "x", vae.state_dict(), replace(record, statistics=statistics))
    with pytest.raises(CheckpointError, match=r"each place of an image expected, got \(2, 2\)"):
        load_model(tmp_path / "x")


def test_a_network_larger_than_its_file_is_refused_before_it_is_built(vae: VAE) -> None:
    """Its settings ask for 16 TB."""
    config = VAEConfig(image_size=32, latent_dim=2**33)
    with pytest.raises(RuntimeError, match=r"encoder\.mu\.weight of shape \(8589934592, 512\)"):
        with_weights(partial(one_class_vae, config), vae.state_dict())


def test_a_threshold_that_is_not_finite_is_refused(
    tmp_path: Path, vae: VAE, record: ModelRecord
) -> None:
    """Nothing would ever exceed it."""
    own = record.calibrations[MAP]
    raw = replace(own.raw, maxima=np.full(3, 1e30, np.float32))
    everywhere = ScoreScale(ONE, np.full((1, 1), 1e-30, np.float32))
    changed = {MAP: replace(own, raw=raw, everywhere=everywhere)}
    save_model(tmp_path / "x", vae.state_dict(), replace(record, calibrations=changed))
    with pytest.raises(CheckpointError, match=f"no finite threshold for {MAP}"):
        Detector.load(tmp_path / "x", device="cpu")


def test_a_header_that_is_nested_too_deeply_is_refused(model_file: Path) -> None:
    tensors = load_file(model_file)
    save_file(tensors, model_file, {"anomaly_cli": "[" * 100_000})
    with pytest.raises(CheckpointError, match="nested too deeply"):
        load_model(model_file)
