"""`train` end to end: files, exit codes, resume, interruption, determinism."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TRAIN_OPTIONS, Trained, draw_part, run_cli, write_category
from torchvision.models import resnet18

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.train import default_options
from anomaly_cli.data.mvtec import training_images
from anomaly_cli.detector.checkpoint import CALIBRATIONS_FILE, load_calibrations, load_model
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.files.images import read_image, write_png
from anomaly_cli.training.calibrate import open_detector
from anomaly_cli.training.loop import EpochStats, Trainer
from anomaly_cli.training.split import split_normal
from models.config import Attention


def train(data: Path, output: Path, *extra: object, epochs: int = 2) -> Any:
    """Train `disc` for a moment."""
    return run_cli(
        "train", "--data", data, "--category", "disc", "--output", output,
        "--epochs", epochs, *TRAIN_OPTIONS, *extra,
    )  # fmt: skip


def test_train_leaves_a_model_and_a_row_for_each_epoch(trained: Trained) -> None:
    names = {path.name for path in (trained.runs / "disc").iterdir()}
    assert names - {CALIBRATIONS_FILE} == {  # of maps that other tests asked for
        "metrics.csv",
        "model.safetensors",
        "settings.toml",
    }
    rows = list(csv.DictReader((trained.runs / "disc/metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    best = min(rows, key=lambda row: float(row["held_out_loss"]))
    record = load_model(trained.model).record
    assert record.training["best_epoch"] == int(best["epoch"])
    assert record.data["fit"] == 9
    assert record.data["held_out"] == 1
    assert record.training["versions"]["torch"] == torch.__version__


def test_guided_training_holds_more_images_out(guided: Trained) -> None:
    """15% of ten are two; the paper's training keeps to one tenth."""
    data = load_model(guided.model).record.data
    assert (data["fit"], data["held_out"]) == (8, 2)
    assert data["held_out_parts"] in {1, 2}


def test_threshold_is_that_of_held_out_normals(trained: Trained, tmp_path: Path) -> None:
    """One image was held out, so the threshold is its maximum, also for a map asked for later."""
    for name in ("model.safetensors", "settings.toml"):
        shutil.copy(trained.runs / "disc" / name, tmp_path)
    detector = open_detector(tmp_path, MapConfig(attention=Attention.GRADCAM, layer="layer3"))
    loaded = load_model(tmp_path)
    calibrations = {**loaded.record.calibrations, **load_calibrations(loaded)}
    assert str(detector.spec) in calibrations
    for name, calibration in calibrations.items():
        assert len(calibration.raw.maxima) == 1, name
        assert calibration.raw.quantiles.max() == calibration.raw.maxima[0], name


def test_statistics_follow_the_law_of_total_variance(trained: Trained) -> None:
    """E[mu] and E[sigma^2] + Var[mu] over the nine images that fit the model, written out."""
    loaded = load_model(trained.model)
    split = split_normal(training_images(trained.data, "disc"), held_out=0.1, seed=0)
    with torch.no_grad():
        images = to_tensor(np.stack([read_image(path) for path in split.fit]))
        mu, logvar = (part.double() for part in loaded.vae.encode(images))
    variance = logvar.exp().mean(0) + ((mu - mu.mean(0)) ** 2).mean(0)
    found = loaded.record.statistics.attention.latent
    torch.testing.assert_close(found.mean, mu.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.variance, variance, atol=1e-5, rtol=1e-5)


def test_same_seed_gives_the_same_file(mvtec: Path, tmp_path: Path) -> None:
    """Bit for bit, weights and calibration; and another seed gives another."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train(mvtec, tmp_path / name, "--seed", seed).code == 0
    a, b, c = ((tmp_path / n / "disc/model.safetensors").read_bytes() for n in "abc")
    assert a == b
    assert a != c


def test_training_reads_no_test_image(mvtec: Path, tmp_path: Path) -> None:
    """Nothing leaks: with a test split that cannot be read, training is the same."""
    assert train(mvtec, tmp_path / "with").code == 0
    for path in [*mvtec.glob("disc/test/*/*"), *mvtec.glob("disc/ground_truth/*/*")]:
        path.write_bytes(b"not an image")
    assert train(mvtec, tmp_path / "without").code == 0
    first, second = (tmp_path / n / "disc/model.safetensors" for n in ("with", "without"))
    assert first.read_bytes() == second.read_bytes()


def test_interrupted_training_resumes_to_the_same_model(
    mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after epoch 2 leaves a usable model and exit code 130; --resume mends it all."""
    assert train(mvtec, tmp_path / "whole", epochs=4).code == 0
    original = Trainer.run

    def interrupted(self: Trainer) -> Any:
        for stats in original(self):
            yield stats
            if isinstance(stats, EpochStats) and stats.epoch == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupted)
    outcome = train(mvtec, tmp_path / "parts", epochs=4)
    assert outcome.code == 130
    assert "interrupted" in outcome.stderr
    model = tmp_path / "parts/disc/model.safetensors"
    assert load_model(model).record.training["finished_epochs"] == 2
    monkeypatch.undo()

    refused = train(mvtec, tmp_path / "parts", epochs=4)
    assert refused.code == 5
    assert "--resume" in refused.stderr
    assert train(mvtec, tmp_path / "parts", "--resume", epochs=4).code == 0
    assert model.read_bytes() == (tmp_path / "whole/disc/model.safetensors").read_bytes()
    assert not (tmp_path / "parts/disc/training_state.pt").exists()


def test_resume_refuses_other_settings(
    mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.run

    def one_epoch(self: Trainer) -> Any:
        for stats in original(self):
            yield stats
            if isinstance(stats, EpochStats):
                raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", one_epoch)
    assert train(mvtec, tmp_path / "runs").code == 130
    outcome = train(mvtec, tmp_path / "runs", "--resume", "--learning-rate", 0.5)
    assert outcome.code == 2
    assert "learning_rate" in outcome.stderr
    (tmp_path / "runs/disc/training_state.pt").write_text("hello")
    outcome = train(mvtec, tmp_path / "runs", "--resume")
    assert outcome.code == 4
    assert "training_state.pt" in outcome.stderr


def test_divergence_keeps_the_last_good_model(
    mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.run

    def diverging(self: Trainer) -> Any:
        for stats in original(self):
            yield stats
            if isinstance(stats, EpochStats) and stats.epoch == 2:
                with torch.no_grad():
                    self.vae.encoder.mu.weight.fill_(torch.nan)

    monkeypatch.setattr(Trainer, "run", diverging)
    outcome = train(mvtec, tmp_path / "runs", epochs=4)
    assert outcome.code == 7
    assert "diverged in epoch 3" in outcome.stderr
    loaded = load_model(tmp_path / "runs/disc")
    assert loaded.record.training["finished_epochs"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in loaded.vae.state_dict().values())


def test_all_categories_are_trained_and_finished_ones_left(mvtec: Path, tmp_path: Path) -> None:
    shutil.copytree(mvtec / "disc", mvtec / "coin")
    runs = tmp_path / "runs"
    options = ["--data", mvtec, "--output", runs, "--epochs", 1, *TRAIN_OPTIONS, "--json"]
    assert run_cli("train", "--category", "coin", *options).code == 0
    before = (runs / "coin/model.safetensors").stat().st_mtime_ns
    outcome = run_cli("train", *options)
    assert outcome.code == 0
    assert "coin: already finished" in outcome.stderr
    rows = json.loads(outcome.stdout)
    assert [(row["category"], row["is_new"]) for row in rows] == [("coin", False), ("disc", True)]
    assert (runs / "coin/model.safetensors").stat().st_mtime_ns == before


def test_weights_of_a_file_are_the_start(mvtec: Path, tmp_path: Path) -> None:
    """The first step of a tiny learning rate leaves the convolutions where the file put them."""
    state = resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    outcome = train(
        mvtec, tmp_path / "runs", "--weights", tmp_path / "resnet18.pth", "--learning-rate", 1e-9,
        epochs=1,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    encoder = load_model(tmp_path / "runs/disc").vae.encoder
    torch.testing.assert_close(encoder.conv1.weight.data, state["conv1.weight"], atol=1e-6, rtol=0)


def test_few_images_are_seen_as_often_as_many(mvtec: Path, tmp_path: Path) -> None:
    """9 images fit: 30 are seen in 4 epochs, and --epochs alone means what it says."""
    options = ["--data", mvtec, "--category", "disc", *TRAIN_OPTIONS, "--guidance", "none"]
    for name, extra, expected in (
        ("more", ["--epochs", 2, "--images-seen", 30], 4),
        ("fewer", ["--epochs", 2, "--images-seen", 5], 2),
        ("alone", ["--epochs", 2], 2),
    ):
        outcome = run_cli("train", *options, *extra, "--output", tmp_path / name)
        assert outcome.code == 0, outcome.stderr
        record = load_model(tmp_path / name / "disc").record
        assert record.training["finished_epochs"] == expected
    assert default_options("synthetic", fast=True)["images_seen"] > 0


def test_half_size_is_seen_in_the_metrics_and_in_the_record(mvtec: Path, tmp_path: Path) -> None:
    """Later options win: 64 pixels here. Too few for the default of guidance to halve them."""
    for name, extra, sizes in (
        ("asked", ["--half-size", 0.5], [32, 64]),
        ("default", [], [64, 64]),
    ):
        outcome = train(
            mvtec, tmp_path / name, "--image-size", 64, "--guidance", "synthetic",
            "--neck", "fpn", *extra,
        )  # fmt: skip
        assert outcome.code == 0, outcome.stderr
        rows = list(csv.DictReader((tmp_path / name / "disc/metrics.csv").open()))
        assert [int(row["image_size"]) for row in rows] == sizes
        record = load_model(tmp_path / name / "disc").record
        assert record.training["best_epoch"] == 2 or not extra
        assert record.training["half_size"] == (0.5 if extra else 0)
        assert record.model.rebuilds_half == bool(extra)
    assert default_options("synthetic")["half_size"] > 0
    assert default_options("none")["half_size"] == 0


@pytest.mark.parametrize("guidance", ["synthetic", "none"])
def test_frozen_stages_stay_as_the_file_has_them(
    mvtec: Path, tmp_path: Path, guidance: str
) -> None:
    """Weights and batch statistics up to the stage; what lies above learns."""
    torch.manual_seed(0)
    state = resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    outcome = train(
        mvtec, tmp_path / "runs", "--weights", tmp_path / "resnet18.pth", "--freeze", "layer2",
        "--guidance", guidance, epochs=2,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    loaded = load_model(tmp_path / "runs/disc")
    assert loaded.record.training["freeze"] == "layer2"
    trained = loaded.vae.encoder.state_dict()
    for name in ("conv1.weight", "bn1.running_mean", "layer2.1.conv2.weight", "layer2.1.bn2.bias"):
        assert torch.equal(trained[name], state[name]), name
    for name in ("layer3.0.conv1.weight", "layer3.0.bn1.running_mean", "layer4.1.conv2.weight"):
        assert not torch.equal(trained[name], state[name]), name


def test_stdout_carries_the_result_alone(mvtec: Path, tmp_path: Path) -> None:
    outcome = train(mvtec, tmp_path / "runs", "--json", epochs=1)
    (row,) = json.loads(outcome.stdout)
    assert row["category"] == "disc"
    assert "epoch 1/1: reconstruction" in outcome.stderr
    assert "disc: appearance is compared with" in outcome.stderr
    quiet = run_cli(
        "--quiet",
        "train",
        "--data",
        mvtec,
        "--output",
        tmp_path / "quiet",
        "--epochs",
        1,
        *TRAIN_OPTIONS,
    )
    assert quiet.stderr == ""
    assert "Trained models" in quiet.stdout


BAD_INPUT = [
    (["--category", "dics"], 3, r"no category dics .*did you mean disc\? found: disc"),
    (["--image-size", "100"], 2, "--image-size must be a multiple of 32, got 100"),
    (["--epochs", "0"], 2, "--epochs must be at least 1"),
    (["--batch-size", "1"], 2, "--batch-size must be at least 2"),
    (["--held-out", "1.5"], 2, "--held-out must be in"),
    (["--half-size", "1"], 2, "--half-size must be in"),
    (["--image-size", "96", "--half-size", "0.5"], 2, "--half-size needs .*multiple of 64"),
    (["--freeze", "layer1"], 2, "--freeze layer1 needs --weights"),
    (["--weights", "no/such/file"], 2, "--weights no/such/file is neither"),
    (["--augmentation", "botle"], 2, "--augmentation botle is unknown"),
    (["--threshold", "0.5"], 2, "--threshold of train must be a rule"),
    (["--threshold", "image-fpr=2"], 2, "got image-fpr=2"),
    (["--device", "cuda:99"], 6, "--device cuda:99 is not there"),
    (["--device", "gpu"], 6, "--device gpu is unknown"),
    (["--resume", "--overwrite"], 2, "contradict"),
    (["--scores", "position"], 2, "--scores position needs 3 held-out normal images, got 2"),
    (["--attention", "exact", "--target-layer", "layer1"], 2, "no anomaly map exact@layer1"),
    (["--guidance", "none", "--target-layer", "neck"], 2, "no layer neck; this model has layer1"),
    (["--head", "flatten", "--neck", "none"], 2, "--guidance synthetic needs --head gap"),
    (["--guidance-ratio", "0"], 2, "--guidance-ratio must be > 0"),
    (["--head", "flatten", "--neck", "fpn"], 2, "head must be gap with a neck"),
]


@pytest.mark.parametrize(("extra", "code", "message"), BAD_INPUT, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_line_with_its_code(
    mvtec: Path, tmp_path: Path, extra: list[str], code: int, message: str
) -> None:
    outcome = train(mvtec, tmp_path / "runs", *extra)
    assert outcome.code == code
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    assert re.search(message, outcome.stderr)
    assert outcome.stdout == ""
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_empty_train_good_is_a_data_error(mvtec: Path, tmp_path: Path) -> None:
    for path in (mvtec / "disc/train/good").iterdir():
        path.unlink()
    outcome = train(mvtec, tmp_path / "runs")
    assert outcome.code == 3
    assert "holds 0 images" in outcome.stderr


def test_a_truncated_training_image_is_named(mvtec: Path, tmp_path: Path) -> None:
    path = mvtec / "disc/train/good/003.png"
    path.write_bytes(path.read_bytes()[:500])
    outcome = train(mvtec, tmp_path / "runs")
    assert outcome.code == 3
    assert str(path) in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_an_output_that_cannot_be_written_is_refused_before_training(
    mvtec: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = train(mvtec, tmp_path / "file")
    assert outcome.code == 5
    assert "epoch" not in outcome.stderr


def test_a_root_that_is_a_category_gets_a_hint(mvtec: Path, tmp_path: Path) -> None:
    outcome = train(mvtec / "disc", tmp_path / "runs")
    assert outcome.code == 3
    assert f"did you mean --data {mvtec} --category disc?" in outcome.stderr


def test_three_images_are_enough(tmp_path: Path) -> None:
    write_category(tmp_path / "data", "disc", train=3, test=1)
    assert train(tmp_path / "data", tmp_path / "runs", epochs=1).code == 0
    write_png(tmp_path / "two/disc/train/good/0.png", draw_part(0))
    outcome = train(tmp_path / "two", tmp_path / "other")
    assert outcome.code == 3
    assert "at least 3" in outcome.stderr
