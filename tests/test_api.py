"""The tool from Python: what the documentation promises, and what wrong arguments raise."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Trained, draw_hole, draw_part, run_cli, write_category
from numpy.typing import NDArray
from PIL import Image

import anomaly_cli
from anomaly_cli import Detector, EvaluateConfig, MapConfig, TrainConfig, evaluate, train
from anomaly_cli.commands import train as command
from anomaly_cli.detector import mapper
from anomaly_cli.detector.mapper import add_parts
from anomaly_cli.errors import (
    CheckpointError,
    ConfigError,
    ConfigTypeError,
    DataError,
    ImageTypeError,
    ImageValueError,
    OutputError,
)


@pytest.fixture(scope="module")
def detector(guided: Trained) -> Detector:
    return Detector.load(guided.runs / "disc")


@pytest.fixture
def hole(guided: Trained) -> Path:
    return guided.data / "disc/test/hole/000.png"


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_prediction_is_what_localize_writes(
    detector: Detector, guided: Trained, hole: Path, tmp_path: Path
) -> None:
    """The same bytes of the same image."""
    outcome = run_cli("localize", guided.model, hole, "--output", tmp_path / "cli")
    assert outcome.code == 0
    prediction = detector.predict(hole)
    outputs = prediction.save(tmp_path / "python")
    written = files_below(tmp_path / "cli")
    assert files_below(tmp_path / "python") == {name: written[name] for name in outputs.values()}
    assert set(outputs) == {"map", "heatmap", "overlay", "mask"}


def test_a_prediction_has_map_mask_score_and_verdict(detector: Detector, hole: Path) -> None:
    prediction = detector.predict(str(hole))
    assert prediction.anomaly_map.shape == prediction.mask.shape == (64, 64)
    assert (prediction.anomaly_map.dtype, prediction.mask.dtype) == (np.float32, np.bool_)
    assert prediction.score == prediction.anomaly_map.max()
    assert prediction.is_anomalous == (prediction.score > detector.threshold.value)
    assert prediction.record()["anomalous_share"] == prediction.mask.mean()
    assert prediction.path == hole


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image,
        lambda image: image.astype(np.uint16) * 257,
        lambda image: image.astype(np.float32) / 255,
        lambda image: image.astype(np.float64) / 255,
        np.asfortranarray,
    ],
    ids=["uint8", "uint16", "float32", "float64", "Fortran order"],
)
def test_arrays_of_any_type_are_one_image(detector: Detector, hole: Path, convert: object) -> None:
    image = np.asarray(Image.open(hole).convert("RGB"))
    expected = detector.predict(hole)
    found = detector.predict(convert(image))  # type: ignore[operator]
    np.testing.assert_array_equal(found.image, image)
    np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1)])
def test_grey_is_repeated_to_three_channels(detector: Detector, shape: tuple[int, ...]) -> None:
    grey = draw_hole(3)[0][..., 0]
    found = detector.predict(grey.reshape(shape))
    rgb = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(found.anomaly_map, detector.predict(rgb).anomaly_map)


def test_an_array_is_read_as_its_file_is(detector: Detector, tmp_path: Path) -> None:
    """16-bit grey: one rule for files and arrays."""
    values = np.random.default_rng(0).integers(0, 2**16, (40, 60), np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    of_file, of_array = detector.predict(tmp_path / "deep.png"), detector.predict(values)
    np.testing.assert_array_equal(of_file.image, of_array.image)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((4, 4), bool), ImageTypeError, "uint8, uint16 or float, got bool"),
        (np.zeros((4, 4), np.int64), ImageTypeError, "got int64"),
        ([[0, 1]], ImageTypeError, "an array or a path, got list"),
        (np.zeros((4, 4, 4), np.uint8), ImageValueError, r"\(H, W\) or \(H, W, 3\)"),
        (np.zeros(4, np.uint8), ImageValueError, r"\(4,\)"),
        (np.zeros((0, 4), np.uint8), ImageValueError, "at least one pixel"),
        (np.full((4, 4), 255.0), ImageValueError, "from 0 to 1"),
        (np.full((4, 4), np.nan), ImageValueError, "from 0 to 1"),
    ],
)
def test_what_is_no_image_is_refused(
    detector: Detector, array: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        detector.predict(array)  # type: ignore[arg-type]
    usual = TypeError if error is ImageTypeError else ValueError
    assert isinstance(caught.value, usual | DataError)
    assert isinstance(caught.value, usual)
    assert isinstance(caught.value, DataError)


def test_files_come_in_order_and_a_bad_one_costs_no_other(
    detector: Detector, guided: Trained, tmp_path: Path
) -> None:
    good = sorted((guided.data / "disc/test").rglob("*.png"))
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    errors: list[DataError] = []
    found = list(detector.predict_files([*good[:2], bad, *good[2:]], on_error=errors.append))
    assert [prediction.path for prediction in found] == good
    assert len(errors) == 1
    assert str(bad) in str(errors[0])
    with pytest.raises(DataError, match=r"bad\.png"):
        list(detector.predict_files([good[0], bad]))


def test_an_image_without_a_file_needs_a_name(detector: Detector, tmp_path: Path) -> None:
    prediction = detector.predict(draw_hole(1)[0])
    with pytest.raises(DataError, match="needs a name"):
        prediction.save(tmp_path)
    outputs = prediction.save(tmp_path, "line 3/part", kinds=["masks"])
    assert outputs == {"mask": "masks/line 3/part.png"}
    written = np.asarray(Image.open(tmp_path / outputs["mask"]))
    np.testing.assert_array_equal(written, 255 * prediction.mask.astype(np.uint8))


def test_threads_may_share_a_detector(detector: Detector, guided: Trained) -> None:
    paths = sorted((guided.data / "disc/test").rglob("*.png")) * 2

    def predict(path: Path) -> NDArray[np.float32]:
        return detector.predict(path).anomaly_map

    alone = [predict(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        for own, shared in zip(alone, pool.map(predict, paths), strict=True):
            np.testing.assert_array_equal(own, shared)


def test_map_and_threshold_are_chosen_when_loading(guided: Trained, hole: Path) -> None:
    strict = Detector.load(guided.model, threshold=1e9)
    assert not strict.predict(hole).is_anomalous
    assert Detector.load(guided.model, threshold="max").threshold.rule == "max"
    error = Detector.load(guided.model, map="reconstruction")
    assert error.map_name == "reconstruction"
    scored = Detector.open(guided.model, MapConfig(source="appearance", scores="global"))
    assert scored.map_name == "appearance, global scores"


def test_wrong_arguments_raise_typed_errors(guided: Trained, detector: Detector) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        Detector.load(guided.runs / "nothing")
    with pytest.raises(ConfigError, match="got 5%") as caught:
        Detector.load(guided.model, threshold="5%")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(ConfigError, match="no map gradient; there are attention"):
        Detector.load(guided.model, map="gradient")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no map for each latent"):
        Detector.load(guided.model, map="appearance").predict(np.zeros((8, 8)), with_latents=True)
    with pytest.raises(ConfigTypeError, match="a TrainConfig is expected, got str") as wrong:
        train("bottle")  # type: ignore[arg-type]
    assert isinstance(wrong.value, TypeError)
    with pytest.raises(ConfigTypeError, match="a EvaluateConfig is expected, got TrainConfig"):
        evaluate(TrainConfig())  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"cannot read nothing\.png"):
        detector.predict("nothing.png")


def test_a_map_that_is_not_calibrated_says_so(trained: Trained, tmp_path: Path) -> None:
    model = shutil.copy(trained.model, tmp_path)  # without the calibrations of other maps beside it
    with pytest.raises(CheckpointError, match="is not calibrated for ssim"):
        Detector.load(model, map="ssim")


@pytest.fixture(scope="module")
def trained_from_python(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Detector]:
    root = tmp_path_factory.mktemp("python")
    write_category(root / "mvtec", "disc", train=6, test=1)
    config = TrainConfig.resolve(
        data=str(root / "mvtec"), category="disc", output=root / "runs", epochs=2,
        image_size=32, latent_dim=2, batch_size=3, guidance="none",
    )  # fmt: skip
    return config, train(config)


def test_train_leaves_what_the_command_leaves(
    trained_from_python: tuple[TrainConfig, Detector],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same bytes from settings that the command reads back, and from its options."""
    config, detector = trained_from_python
    assert (detector.category, detector.network.image_size) == ("disc", 32)
    settings = detector.path.parent / "settings.toml"
    outcome = run_cli(
        "train", "--config", settings, "--output", tmp_path / "runs", "--images-seen", 0
    )
    assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "runs/disc/model.safetensors").read_bytes() == detector.path.read_bytes()
    given: list[TrainConfig] = []

    def record(config: TrainConfig, *_arguments: object, **_options: object) -> list[Any]:
        given.append(config)
        raise ConfigError("stopped")

    monkeypatch.setattr(command, "run", record)
    run_cli(
        "train", "--data", config.data, "--category", "disc", "--output", config.output,
        "--epochs", 2, "--image-size", 32, "--latent-dim", 2, "--batch-size", 3,
        "--guidance", "none",
    )  # fmt: skip
    assert given == [replace(config, data=Path(config.data))]  # given as text in Python


def test_a_finished_training_is_loaded_and_another_one_refused(
    trained_from_python: tuple[TrainConfig, Detector], capfd: pytest.CaptureFixture[str]
) -> None:
    config, detector = trained_from_python
    assert train(config).sha256 == detector.sha256
    with pytest.raises(ConfigError, match=r"trained with other settings \(epochs\)"):
        train(replace(config, epochs=3))
    assert capfd.readouterr() == ("", "")


def test_train_returns_one_model(tmp_path: Path) -> None:
    for category in ("disc", "ring"):
        write_category(tmp_path, category, train=3)
    with pytest.raises(ConfigError, match="name one category of disc, ring"):
        train(TrainConfig(data=tmp_path, output=tmp_path / "runs"))


def test_evaluate_returns_the_report(
    guided: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = EvaluateConfig(data=guided.data, runs=guided.runs, output=tmp_path / "report")
    report = evaluate(config)
    assert [row.category for row in report.rows] == ["disc"]
    assert 0 <= report.rows[0].pixel_auroc <= 1
    assert (tmp_path / "report/report.html").is_file()
    with pytest.raises(OutputError, match="already holds something"):
        evaluate(config)
    assert capfd.readouterr() == ("", "")


def test_the_package_lists_its_names_and_has_no_others() -> None:
    assert set(anomaly_cli.__all__) <= set(dir(anomaly_cli))
    with pytest.raises(AttributeError, match="no attribute 'Detecter'"):
        _ = anomaly_cli.Detecter


def test_a_script_prints_nothing(guided: Trained, tmp_path: Path) -> None:
    code = (
        "from anomaly_cli import Detector, EvaluateConfig, evaluate\n"
        f"detector = Detector.load({str(guided.runs / 'disc')!r})\n"
        f"image = {str(guided.data / 'disc/test/hole/000.png')!r}\n"
        f"detector.predict(image).save({str(tmp_path)!r})\n"
        f"evaluate(EvaluateConfig(data={str(guided.data)!r}, runs={str(guided.runs)!r}, "
        f"output={str(tmp_path / 'report')!r}, formats=('json',), replicates=0))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (result.stdout, result.stderr) == (b"", b"")


def test_a_score_that_is_no_number_is_an_error(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapper, "add_parts", lambda parts: add_parts(parts) * np.nan)
    with pytest.raises(DataError, match="the image: its score is nan, which is no number"):
        Detector.load(trained.model).predict(draw_part(0))
