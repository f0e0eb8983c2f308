"""Few normal images: each is compared with the patches of the others."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Trained, make_once, run_cli, train_disc, write_category

from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.normal.memory import patch_distances, patch_features
from anomaly_cli.training.split import FEW
from models.config import VAEConfig

IMAGES = 5


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = make_once(tmp_path_factory, "few", lambda path: train_disc(path, images=IMAGES))
    return Trained(folder / "mvtec", folder / "runs")


def test_the_map_is_the_memory_of_all_images(few: Trained) -> None:
    record = load_model(few.model).record
    assert record.default_map == "memory"
    assert record.data["fit"] == record.data["held_out"] == record.data["images"] == IMAGES
    assert record.statistics.memory is not None
    assert set(record.statistics.memory.image.tolist()) == set(range(IMAGES))
    assert len(record.calibrations["memory"].raw.maxima) == IMAGES
    assert isinstance(record.model, VAEConfig)


def test_the_scale_leaves_the_own_image_out(few: Trained) -> None:
    """So a normal place has a mean distance of 1 from the others, and not of 0 from itself."""
    detector = Detector.load(few.model)
    memory = detector.record.statistics.memory
    assert memory is not None
    from anomaly_cli.detector.predict import to_tensor
    from anomaly_cli.files.read import read_image

    paths = sorted((few.data / "disc/train/good").iterdir())
    images = to_tensor(np.stack([read_image(path) for path in paths]))
    features = patch_features(memory.encoder(images))
    others = patch_distances(features, memory, own=range(IMAGES))
    assert float(others.mean()) == pytest.approx(1, rel=1e-3)
    assert float(patch_distances(features, memory).mean()) < 0.5


def test_defects_are_found_and_good_images_are_not(few: Trained, tmp_path: Path) -> None:
    outcome = run_cli(
        "evaluate", "--data", few.data, "--runs", few.runs, "--output", tmp_path / "report"
    )
    assert outcome.code == 0, outcome.stderr
    (row,) = json.loads((tmp_path / "report/report.json").read_text())["categories"]
    assert row["image_auroc"] == 1.0


def test_the_latents_shown_are_those_of_the_fused_map(few: Trained, tmp_path: Path) -> None:
    image = few.data / "disc/test/hole/000.png"
    for command in (["explain"], ["localize", "--latents", "top:2"]):
        outcome = run_cli(
            *command[:1], few.model, image, *command[1:], "--output", tmp_path / command[0]
        )
        assert outcome.code == 0, outcome.stderr
        assert "memory has no latents; the map is fused" in outcome.stderr
    assert json.loads((tmp_path / "explain/explain.json").read_text())["map"] == "fused_memory@neck"


@pytest.mark.parametrize(("images", "is_few"), [(3, True), (FEW - 1, True), (FEW, False)])
def test_training_says_what_few_images_mean(tmp_path: Path, images: int, is_few: bool) -> None:
    write_category(tmp_path / "mvtec", "disc", train=images)
    outcome = run_cli(
        "train", "--data", tmp_path / "mvtec", "--category", "disc", "--output", tmp_path / "runs",
        "--image-size", 64, "--epochs", 1, "--latent-dim", 2,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    note = f"{images} normal images are few: the map is the memory alone"
    assert (note in outcome.stderr) == is_few
    record = load_model(tmp_path / "runs/disc").record
    assert (record.default_map == "memory") == is_few
    assert (record.data["fit"] + record.data["held_out"] == 2 * images) == is_few


def test_without_a_memory_some_are_held_out(tmp_path: Path) -> None:
    write_category(tmp_path / "mvtec", "disc", train=IMAGES)
    outcome = run_cli(
        "train", "--data", tmp_path / "mvtec", "--category", "disc", "--output", tmp_path / "runs",
        "--image-size", 64, "--epochs", 1, "--latent-dim", 2, "--features", "none",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    record = load_model(tmp_path / "runs/disc").record
    assert record.default_map == "fused@neck"
    assert record.data["fit"] + record.data["held_out"] == IMAGES
