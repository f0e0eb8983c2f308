"""MNIST: idx files, one digit against the others, the paper's Figure 4."""

import gzip
import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome, run_cli
from example_datasets import draw_digit, write_idx, write_mnist
from PIL import Image

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.train import default_options
from anomaly_cli.data import mnist
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.maps import map_specs
from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.training.calibrate import open_detector
from models.config import Attention, OneClassConvConfig

OPTIONS = ("--dataset", "mnist", "--category", 1, "--epochs", 2, "--batch-size", 4)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mnist(tmp_path_factory.mktemp("mnist"))


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model of the digit 1."""
    folder = tmp_path_factory.mktemp("runs")
    outcome = run_cli("train", "--data", root, "--output", folder, *OPTIONS)
    assert outcome.code == 0, outcome.stderr
    return folder


@pytest.fixture(scope="module")
def evaluated(root: Path, runs: Path) -> tuple[Outcome, Path]:
    """Run `evaluate`; return its output and the folder of its report."""
    outcome = run_cli(
        "evaluate", "--dataset", "mnist", "--data", root, "--runs", runs,
        "--output", runs.parent / "report", "--replicates", 20,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    return outcome, runs.parent / "report"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_one_digit_is_read_from_packed_and_plain_files(tmp_path: Path, suffix: str) -> None:
    root = write_mnist(tmp_path, suffix=suffix)
    paths = mnist.training_images(root, "7")
    assert [path.name for path in paths[:3]] == ["00001", "00003", "00005"]
    image = mnist.read_image(paths[0])
    assert image.shape == (28, 28, 3)
    assert (image[..., 2] == draw_digit(7, 1)).all()


def test_all_other_digits_are_anomalies_without_masks(root: Path) -> None:
    samples = mnist.test_samples(root, "1")
    assert len(samples) == 20
    assert {s.defect_type for s in samples if not s.is_anomalous} == {"good"}
    assert sum(sample.is_anomalous for sample in samples) == 18
    assert all(sample.mask_path is None for sample in samples)
    seven = next(sample for sample in samples if sample.defect_type == "7")
    assert seven.name == "t10k/00007"


def test_files_behind_images_are_those_of_images_and_labels(root: Path) -> None:
    files = mnist.stored_files(mnist.training_images(root, "1"))
    assert [file.name for file in files] == [
        "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
    ]  # fmt: skip


def test_damaged_and_missing_files_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds MNIST/raw"):
        mnist.select_categories(tmp_path, "1")
    with pytest.raises(ConfigError, match="no digit"):
        mnist.select_categories(root, "bottle")
    broken = tmp_path / "broken-idx1-ubyte"
    write_idx(broken, np.arange(10))
    broken.write_bytes(broken.read_bytes()[:-3])
    with pytest.raises(DataError, match="damaged: 7 bytes for shape"):
        mnist.read_idx(broken)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="not an idx file"):
        mnist.read_idx(tmp_path / "text")
    with pytest.raises(DataError, match="has no image 00099"):
        mnist.read_image(mnist.find_file(root, "t10k", "images") / "00099")


def test_images_and_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    root = write_mnist(tmp_path, trained=(7, 7))
    with pytest.raises(DataError, match="has 0 images of 1; 3 are needed"):
        mnist.training_images(root, "1")
    write_idx(root / "MNIST/raw/t10k-labels-idx1-ubyte", np.arange(10))
    with pytest.raises(DataError, match="20 images of t10k, 10 labels"):
        mnist.test_samples(root, "1")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"hello")[:-4])
    with pytest.raises(DataError, match=r"cannot read .*cut\.gz: "):
        mnist.read_idx(tmp_path / "cut.gz")


def test_a_fused_map_is_refused_by_a_network_without_one(root: Path, runs: Path) -> None:
    outcome = run_cli("localize", runs / "1", root, "--dataset", "mnist", "--map", "fused")
    assert outcome.code == 2
    assert "the network of 1 has no fused map; it has gradcam@conv1" in outcome.stderr


def test_arrays_of_other_shapes_are_no_digits(tmp_path: Path) -> None:
    for shape in ((28, 28), (2, 28), (2, 28, 0), (56,)):
        write_idx(tmp_path / "x", np.zeros(shape, np.uint8))
        mnist.read_idx.cache_clear()
        with pytest.raises(DataError, match="images of 28 x 28 are read"):
            mnist.read_image(tmp_path / "x" / "0")
    (tmp_path / "short").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0]))
    with pytest.raises(DataError, match="not an idx file"):
        mnist.read_idx(tmp_path / "short")


def test_labels_are_one_number_each(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST/raw/t10k-images-idx3-ubyte", np.zeros((2, 28, 28), np.uint8))
    write_idx(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match=r"labels-idx1-ubyte holds an array of shape \(2, 3\)"):
        mnist.test_samples(tmp_path, "1")


def test_the_model_file_holds_its_network(runs: Path) -> None:
    """28 pixels, one channel, convolutions of 64 and 128, and the paper's plain objective."""
    record = load_model(runs / "1").record
    assert record.model == OneClassConvConfig(image_size=28, channels=(64, 128))
    assert record.training["dataset"] == "mnist"
    assert record.training["guidance"] == "none"
    assert record.default_map == "diff_mahal@conv2"
    assert set(record.calibrations) == {"diff_mahal@conv2"}
    maps = {str(spec) for spec in map_specs(record.model)}
    assert "gradcam@conv1" in maps
    assert "exact@conv2" not in maps  # the head has a hidden layer
    assert record.data["fit"] + record.data["held_out"] == 12


def test_a_map_of_an_earlier_layer_is_calibrated_when_it_is_asked_for(runs: Path) -> None:
    detector = open_detector(runs / "1", MapConfig(attention=Attention.GRADCAM, layer="conv1"))
    assert str(detector.spec) == "gradcam@conv1"
    assert detector.threshold.held_out == load_model(runs / "1").record.data["held_out"]


def test_image_metrics_are_given_and_pixel_metrics_are_null(
    evaluated: tuple[Outcome, Path],
) -> None:
    outcome, folder = evaluated
    assert "18 of 18 anomalous images have no mask" in outcome.stderr
    (row,) = json.loads((folder / "report.json").read_text())["categories"]
    assert row["images"] == 20
    assert row["anomalous_images"] == 18
    assert 0 <= row["image_auroc"] <= 1
    assert row["intervals"]["image_auroc"] is not None
    pixels = ("pixel_auroc", "best_iou", "aupro", "iou", "precision", "recall", "regions")
    assert all(row[name] is None for name in pixels)
    assert all(kind["pixel_auroc"] is None for kind in row["defect_types"])
    assert all(image["area"] is None for image in row["image_table"])
    assert row["image_table"][0]["image"].startswith("t10k/")
    assert "n/a" in (folder / "report.md").read_text()
    assert not re.search(r"\bnan\b", (folder / "report.html").read_text(), re.IGNORECASE)


def test_digit_table_has_the_image_auroc_of_each_digit(evaluated: tuple[Outcome, Path]) -> None:
    """The numbers of the report in one row; the model's own digit has none."""
    _outcome, folder = evaluated
    (report,) = json.loads((folder / "report.json").read_text())["categories"]
    row = json.loads((folder / "digits.json").read_text())["rows"]["1"]
    of_kind = {kind["defect_type"]: kind["image_auroc"] for kind in report["defect_types"]}
    assert row["1"] is None
    assert row["7"] == of_kind["7"]
    others = [row[str(digit)] for digit in range(10) if digit != 1]
    assert row["mean"] == pytest.approx(np.mean(others))
    assert row["all others"] == report["image_auroc"]
    lines = (folder / "digits.csv").read_text().splitlines()
    assert lines[0] == "model,0,1,2,3,4,5,6,7,8,9,mean,all others"
    assert lines[1].split(",")[2] == ""
    assert "| model | 0 |" in (folder / "digits.md").read_text()


def test_figure_4_has_a_row_for_each_digit(evaluated: tuple[Outcome, Path]) -> None:
    with Image.open(evaluated[1] / "figure_4_1.png") as sheet:
        assert sheet.height > 10 * 84
        assert sheet.width > 6 * 84  # two test images of each digit, three pictures each


def test_test_images_of_the_data_set_are_localized(root: Path, runs: Path, tmp_path: Path) -> None:
    outcome = run_cli(
        "localize", runs / "1", root, "--dataset", "mnist", "--output", tmp_path / "out"
    )
    assert outcome.code == 0, outcome.stderr
    lines = (tmp_path / "out/manifest.jsonl").read_text().splitlines()
    assert len(lines) == 20
    assert {json.loads(line)["image"] for line in lines} == {f"t10k/{i:05}" for i in range(20)}
    assert (tmp_path / "out/overlays/t10k/00007.png").is_file()
    refused = run_cli("localize", runs / "1", root, root, "--dataset", "mnist")
    assert refused.code == 2


def test_files_of_any_kind_are_localized_by_a_grey_network(runs: Path, tmp_path: Path) -> None:
    """A colour image turns grey in the first step: a grey one of the same luma has its map."""
    colour = np.full((28, 28, 3), (200, 100, 50), np.uint8)
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(np.full((28, 28), luma, np.uint8)).save(tmp_path / "grey.png")
    options = ["--output", tmp_path / "out", "--map", "reconstruction"]
    outcome = run_cli("localize", runs / "1", tmp_path, *options)
    assert outcome.code == 0, outcome.stderr
    colour_map, grey_map = (
        np.asarray(Image.open(tmp_path / f"out/maps/{name}.tiff")) for name in ("colour", "grey")
    )
    np.testing.assert_allclose(colour_map, grey_map, atol=5e-3)


def test_explain_draws_latents_of_a_grey_network(runs: Path, tmp_path: Path) -> None:
    Image.fromarray(draw_digit(7, 0)).save(tmp_path / "seven.png")
    outcome = run_cli("explain", runs / "1", tmp_path / "seven.png", "--output", tmp_path / "why")
    assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "why/explain.png").is_file()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--guidance", "synthetic"], "--guidance is not supported with --dataset mnist"),
        (["--neck", "fpn"], "--neck is not supported"),
        (["--head", "flatten"], "--head is not supported"),
        (["--fast"], "--fast is not supported"),
        (["--weights", "imagenet"], "--weights is not supported"),
        (["--attention", "exact"], "no anomaly map exact@conv2"),
        (["--target-layer", "layer4"], "no anomaly map diff_mahal@layer4"),
    ],
)
def test_options_that_only_resnet_supports_are_refused(
    root: Path, tmp_path: Path, extra: list[str], message: str
) -> None:
    outcome = run_cli("train", "--data", root, "--output", tmp_path, *OPTIONS, *extra)
    assert outcome.code == 2
    assert message in outcome.stderr


def test_numbers_come_from_the_preset_alone() -> None:
    """`--dataset mnist` takes what presets/mnist.toml says, and so does `--preset`."""
    text = (files("anomaly_cli") / "config/presets/mnist.toml").read_text()
    numbers = tomllib.loads(text)
    defaults = default_options("none", dataset="mnist")
    assert numbers["dataset"] == "mnist"
    assert (defaults["epochs"], defaults["batch_size"]) == (
        numbers["epochs"],
        numbers["batch-size"],
    )
    assert defaults["learning_rate"] == numbers["learning-rate"] == 1e-3
    assert defaults["augmentation"] == "none"


def test_the_settings_of_a_run_repeat_it(runs: Path, tmp_path: Path) -> None:
    """They hold the options that only ResNet18 supports too, at values that change nothing."""
    settings = runs / "1/settings.toml"
    assert "neck = " in settings.read_text()
    outcome = run_cli("train", "--config", settings, "--output", tmp_path)
    assert outcome.code == 0, outcome.stderr
    written = (tmp_path / "1/model.safetensors").read_bytes()
    assert written == (runs / "1/model.safetensors").read_bytes()


@pytest.mark.data
def test_real_mnist_has_the_published_counts(real_data: Path) -> None:
    if not (real_data / "MNIST/raw").is_dir():
        pytest.skip("ANOMALY_CLI_TEST_DATA has no MNIST/raw: the tests on real digits do not run")
    assert len(mnist.training_images(real_data, "1")) == 6742
    assert len(mnist.training_images(real_data, "3")) == 6131
    samples = mnist.test_samples(real_data, "3")
    assert len(samples) == 10000
    assert sum(not sample.is_anomalous for sample in samples) == 1010


def test_a_small_file_that_unpacks_into_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "_LARGEST", 1000)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(100_000)))
    with pytest.raises(DataError, match="it holds more than 1,000 bytes"):
        mnist.read_idx(path)
