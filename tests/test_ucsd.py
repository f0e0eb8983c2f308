"""UCSD pedestrians: clips, masks, the paper's Table 1 and Figure 5."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Outcome, run_cli
from example_datasets import write_ucsd
from PIL import Image

from anomaly_cli.data import ucsd
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.errors import DataError

OPTIONS = ("--dataset", "ucsd", "--category", "UCSDped2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ucsd(tmp_path_factory.mktemp("ucsd"))


@pytest.fixture(scope="module")
def evaluated(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """Train a model of 24 pixels and evaluate it; the runs lie beside the report."""
    folder = tmp_path_factory.mktemp("ucsd_runs")
    outcome = run_cli(
        "train", "--data", root, "--output", folder / "runs", *OPTIONS, "--image-size", 24,
        "--epochs", 2, "--batch-size", 2, "--learning-rate", 0.001,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    outcome = run_cli(
        "evaluate", "--data", root, "--runs", folder / "runs", "--output", folder / "report",
        *OPTIONS, "--replicates", 0,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    return outcome, folder / "report"


def test_clips_without_masks_are_left_out(root: Path) -> None:
    samples = ucsd.test_samples(root, "UCSDped2")
    assert [sample.name for sample in samples] == [f"Test001/00{i}.tif" for i in range(1, 7)]
    (gap,) = ucsd.explain_gaps(root, "UCSDped2", samples)
    assert gap == "1 of 2 test clips have no masks, left out: Test002"


def test_a_frame_with_an_empty_mask_is_normal(root: Path) -> None:
    first, *others = ucsd.test_samples(root, "UCSDped2")
    assert first.defect_type == "good"
    assert first.mask_path is None
    assert {sample.defect_type for sample in others} == {"Test001"}
    assert all(sample.mask_path is not None for sample in others)


def test_a_frame_without_its_mask_is_an_error(tmp_path: Path) -> None:
    root = write_ucsd(tmp_path)
    (root / "UCSDped2/Test/Test001_gt/004.bmp").unlink()
    with pytest.raises(DataError, match=r"004\.tif has no mask"):
        ucsd.test_samples(root, "UCSDped2")
    with pytest.raises(DataError, match="found: UCSDped2"):
        ucsd.select_categories(root, "UCSDped1")
    with pytest.raises(DataError, match="no UCSD pedestrians"):
        ucsd.select_categories(root / "UCSDped2", "all")


def test_too_few_frames_and_clips_without_masks_are_refused(tmp_path: Path) -> None:
    root = write_ucsd(tmp_path, frames=2)
    with pytest.raises(DataError, match="Train holds 2 frames; 3 are needed"):
        ucsd.training_images(root, "UCSDped2")
    shutil.rmtree(root / "UCSDped2/Test/Test001_gt")
    with pytest.raises(DataError, match=r"no test clip with masks under .*Test; expected TestNNN"):
        ucsd.test_samples(root, "UCSDped2")


def test_the_network_has_three_convolutions(evaluated: tuple[Outcome, Path]) -> None:
    record = load_model(evaluated[1].parent / "runs/UCSDped2").record
    assert record.model.layers == ("conv1", "conv2", "conv3")
    assert record.default_map == "diff_mahal@conv3"


def test_table_1_compares_the_error_with_three_layers(evaluated: tuple[Outcome, Path]) -> None:
    """Its columns are those of the paper; the one of the model's own map is the report's number."""
    outcome, folder = evaluated
    assert "left out: Test002" in outcome.stderr
    rows = json.loads((folder / "table_1.json").read_text())["rows"]
    own = rows["UCSDped2, pixel AUROC"]
    assert list(own) == ["reconstruction", "conv1", "conv2", "conv3"]
    assert list(rows["paper, UCSDped1, pixel AUROC"].values()) == [0.86, 0.89, 0.92, 0.91]
    (row,) = json.loads((folder / "report.json").read_text())["categories"]
    assert own["conv3"] == pytest.approx(row["pixel_auroc"])
    assert own["reconstruction"] > 0.8  # bright squares on a grey ground
    assert row["images"] == 6
    assert row["anomalous_images"] == 5
    assert row["resolution"] == 24


def test_figure_5_has_a_column_for_each_map(evaluated: tuple[Outcome, Path]) -> None:
    with Image.open(evaluated[1] / "figure_5_UCSDped2.png") as sheet:
        assert sheet.width > 6 * 176
        assert sheet.height > 3 * 176


@pytest.mark.data
def test_real_clips_are_found_with_their_masks(real_data: Path) -> None:
    root = real_data / "ucsd"
    if not root.is_dir():
        pytest.skip("ANOMALY_CLI_TEST_DATA has no ucsd: the tests on real frames do not run")
    for camera in ucsd.select_categories(root, "all"):
        assert len(ucsd.training_images(root, camera)) >= 120
        samples = ucsd.test_samples(root, camera)
        assert any(sample.is_anomalous for sample in samples)
        clips = {sample.name.split("/")[0] for sample in samples}
        assert len(clips) == len(ucsd.masked_clips(root, camera))
