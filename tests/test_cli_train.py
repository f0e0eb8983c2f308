"""`train` end to end: files, exit codes, resume, interruption, determinism."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Outcome, Trained, draw_part, run_cli, write_category
from torchvision.models import resnet18

from anomaly_cli.config.train import TrainConfig, default_options
from anomaly_cli.data.mvtec import training_images
from anomaly_cli.detector.checkpoint import (
    CALIBRATIONS_FILE,
    LoadedModel,
    load_calibrations,
    load_model,
)
from anomaly_cli.detector.maps import map_specs
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.files.images import write_png
from anomaly_cli.files.read import read_image
from anomaly_cli.training import fit
from anomaly_cli.training.loop import EpochStats, Trainer
from anomaly_cli.training.split import split_normal

SMALL = ("--image-size", 32, "--latent-dim", 2, "--batch-size", 3)
PLAIN = ("--guidance", "none")


def train(data: Path, output: Path, *extra: object, epochs: int = 2) -> Outcome:
    """Train `disc` for a moment."""
    return run_cli(
        "train", "--data", data, "--category", "disc", "--output", output,
        "--epochs", epochs, *SMALL, *extra,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write six images of `disc` to train on; no test changes them."""
    root = tmp_path_factory.mktemp("data") / "mvtec"
    write_category(root, "disc", train=6, test=1)
    return root


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train three guided epochs without interruption: the model with which others are compared."""
    runs = tmp_path_factory.mktemp("whole")
    outcome = train(data, runs, epochs=3)
    assert outcome.code == 0, outcome.stderr
    return runs / "disc/model.safetensors"


def stop_after(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Press Ctrl-C after an epoch."""
    original = Trainer.run

    def interrupted(self: Trainer) -> Iterator[Any]:
        for stats in original(self):
            yield stats
            if isinstance(stats, EpochStats) and stats.epoch == epoch:
                raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupted)


def test_train_leaves_a_model_and_a_row_for_each_epoch(trained: Trained) -> None:
    names = {path.name for path in (trained.runs / "disc").iterdir()}
    assert names - {CALIBRATIONS_FILE} == {  # which the fixture adds, for other maps
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
    """15% of 24 are four; the paper's training keeps to one tenth."""
    data = load_model(guided.model).record.data
    assert (data["fit"], data["held_out"]) == (20, 4)
    assert data["held_out_parts"] in {1, 2, 3, 4}


def test_threshold_is_that_of_held_out_normals(trained: Trained) -> None:
    """One image was held out, so the threshold is its maximum for every map."""
    loaded = load_model(trained.model)
    calibrations = {**loaded.record.calibrations, **load_calibrations(loaded)}
    assert calibrations.keys() == {str(spec) for spec in map_specs(loaded.record.model)}
    for name, calibration in calibrations.items():
        assert len(calibration.raw.maxima) == 1, name
        assert calibration.raw.quantiles.max() == calibration.raw.maxima[0], name


def test_statistics_follow_the_law_of_total_variance(trained: Trained) -> None:
    """E[mu] and E[sigma^2] + Var[mu] over the nine images that fit the model, written out."""
    loaded = load_model(trained.model)
    split = split_normal(training_images(trained.data, "disc"), held_out=0.1, seed=0)
    with torch.no_grad():
        images = to_tensor(np.stack([read_image(path) for path in split.fit]))
        mu, logvar = (part.double() for part in loaded.network.encode(images))
    variance = logvar.exp().mean(0) + ((mu - mu.mean(0)) ** 2).mean(0)
    found = loaded.record.statistics.attention.latent
    torch.testing.assert_close(found.mean, mu.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.variance, variance, atol=1e-5, rtol=1e-5)


def test_another_seed_gives_another_model(data: Path, whole: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path, "--seed", 1, epochs=3).code == 0
    other = load_model(tmp_path / "disc").network.state_dict()
    first = load_model(whole).network.state_dict()
    assert any(not torch.equal(other[name], first[name]) for name in first)


def test_training_reads_no_test_image_and_is_repeated_by_its_seed(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    """Nothing leaks: with a test split that cannot be read, the file is the same bit for bit."""
    broken = shutil.copytree(data, tmp_path / "mvtec")
    tests = [*broken.glob("disc/test/*/*"), *broken.glob("disc/ground_truth/*/*")]
    assert len(tests) == 3
    for path in tests:
        path.write_bytes(b"not an image")
    assert train(broken, tmp_path / "runs", "--seed", 0, epochs=3).code == 0
    assert (tmp_path / "runs/disc/model.safetensors").read_bytes() == whole.read_bytes()


def test_interrupted_training_resumes_to_the_same_model(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after epoch 2 leaves a usable model and exit code 130; --resume mends it all.

    Unless the settings are others, or the saved state cannot be read.
    """
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        outcome = train(data, tmp_path, epochs=3)
    assert outcome.code == 130
    assert "interrupted" in outcome.stderr
    model = tmp_path / "disc/model.safetensors"
    assert load_model(model).record.training["finished_epochs"] == 2

    refused = train(data, tmp_path, epochs=3)
    assert refused.code == 5
    assert "--resume" in refused.stderr
    refused = train(data, tmp_path, "--resume", "--learning-rate", 0.5, epochs=3)
    assert refused.code == 2
    assert "learning_rate" in refused.stderr
    state = tmp_path / "disc/training_state.pt"
    kept = state.rename(tmp_path / "kept")
    state.write_text("hello")
    refused = train(data, tmp_path, "--resume", epochs=3)
    assert refused.code == 4
    assert "training_state.pt" in refused.stderr
    kept.rename(state)

    assert train(data, tmp_path, "--resume", epochs=3).code == 0
    assert model.read_bytes() == whole.read_bytes()
    assert not state.exists()


def test_divergence_keeps_the_last_good_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.run

    def diverging(self: Trainer) -> Any:
        for stats in original(self):
            yield stats
            if isinstance(stats, EpochStats) and stats.epoch == 1:
                with torch.no_grad():
                    self.network.encoder.mu.weight.fill_(torch.nan)

    monkeypatch.setattr(Trainer, "run", diverging)
    outcome = train(data, tmp_path / "runs", epochs=2)
    assert outcome.code == 7
    assert "diverged in epoch 2" in outcome.stderr
    loaded = load_model(tmp_path / "runs/disc")
    assert loaded.record.training["finished_epochs"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in loaded.network.state_dict().values())


@pytest.fixture(scope="module")
def both(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, Outcome]:
    """Train one category of two in silence, then all, with the result as JSON."""
    root = tmp_path_factory.mktemp("both")
    for category in ("coin", "disc"):
        shutil.copytree(data / "disc", root / "mvtec" / category)
    options = ("--data", root / "mvtec", "--output", root / "runs", "--epochs", 1, *SMALL, *PLAIN)
    quiet = run_cli("--quiet", "train", "--category", "coin", *options)
    assert quiet.code == 0, quiet.stderr
    shutil.copy2(root / "runs/coin/model.safetensors", root / "before")
    all_of_them = run_cli("train", *options, "--json")
    assert all_of_them.code == 0, all_of_them.stderr
    return root, quiet, all_of_them


def test_all_categories_are_trained_and_finished_ones_left(
    both: tuple[Path, Outcome, Outcome],
) -> None:
    root, _, outcome = both
    assert "coin: already finished" in outcome.stderr
    rows = json.loads(outcome.stdout)
    assert [(row["category"], row["is_new"]) for row in rows] == [("coin", False), ("disc", True)]
    left = root / "runs/coin/model.safetensors"
    assert left.stat().st_mtime_ns == (root / "before").stat().st_mtime_ns
    assert left.read_bytes() == (root / "before").read_bytes()


def test_each_category_has_settings_of_its_own(both: tuple[Path, Outcome, Outcome]) -> None:
    """And another training reads them: `all` is mentioned, but not repeated."""
    text = (both[0] / "runs/disc/settings.toml").read_text()
    assert 'category = "disc"  # one of all, default\n' in text


def test_stdout_carries_the_result_alone(both: tuple[Path, Outcome, Outcome]) -> None:
    _, quiet, outcome = both
    assert json.loads(outcome.stdout)[-1]["category"] == "disc"
    assert "epoch 1/1: reconstruction" in outcome.stderr
    assert "disc: appearance is compared with" in outcome.stderr
    assert quiet.stderr == ""
    assert "Trained models" in quiet.stdout


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of weights of ResNet18."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def started(data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Start from the weights of a file, at a tiny learning rate; one epoch is too few here."""
    runs = tmp_path_factory.mktemp("started")
    outcome = train(
        data, runs, "--weights", weights, "--learning-rate", 1e-9, "--images-seen", 8, *PLAIN,
        epochs=1,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    return load_model(runs / "disc")


def test_weights_of_a_file_are_the_start(started: LoadedModel, weights: Path) -> None:
    """The first steps of a tiny learning rate leave the convolutions where the file put them."""
    found, state = started.network.encoder.conv1.weight.data, torch.load(weights)
    torch.testing.assert_close(found, state["conv1.weight"], atol=1e-6, rtol=0)


def test_few_images_are_seen_as_often_as_many(started: LoadedModel, whole: Path) -> None:
    """Five images fit: 8 are seen in 2 epochs, and --epochs alone means what it says."""
    assert started.record.data["fit"] == 5
    assert started.record.training["finished_epochs"] == 2
    assert load_model(whole).record.training["finished_epochs"] == 3  # alone
    for seen, epochs in ((30, 4), (5, 2)):
        assert TrainConfig.resolve(epochs=2, images_seen=seen).epochs_for(9) == epochs
    assert default_options("synthetic", speed="fast")["images_seen"] > 0


def image_sizes(folder: Path) -> list[int]:
    """Read the image size of each epoch."""
    return [int(row["image_size"]) for row in csv.DictReader((folder / "metrics.csv").open())]


def test_half_size_is_seen_in_the_metrics_and_in_the_record(
    data: Path, guided: Trained, tmp_path: Path
) -> None:
    """64 pixels here, too few for the default of guidance to halve them."""
    outcome = train(data, tmp_path, "--encoder", "resnet18", "--image-size", 64, "--half-size", 0.5)
    assert outcome.code == 0, outcome.stderr
    assert image_sizes(tmp_path / "disc") == [32, 64]
    record = load_model(tmp_path / "disc").record
    assert record.training["best_epoch"] == 2
    assert record.training["half_size"] == 0.5
    assert record.model.rebuilds_half
    record = load_model(guided.model).record  # the default
    assert image_sizes(guided.runs / "disc") == [64] * 6
    assert record.model.neck == "fpn"
    assert record.training["half_size"] == 0
    assert record.model.rebuilds_half  # the decoder would cost more than the frozen encoder
    assert default_options("synthetic", encoder="resnet18")["half_size"] > 0
    assert default_options("synthetic")["half_size"] == 0
    assert default_options("none")["half_size"] == 0


@pytest.mark.parametrize("guidance", ["synthetic", "none"])
def test_frozen_stages_stay_as_the_file_has_them(
    data: Path, weights: Path, tmp_path: Path, guidance: str
) -> None:
    """Weights and batch statistics up to the stage; what lies above learns."""
    outcome = train(
        data, tmp_path / "runs", "--weights", weights, "--freeze", "layer2", "--guidance", guidance,
        epochs=1,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    state = torch.load(weights)
    loaded = load_model(tmp_path / "runs/disc")
    assert loaded.record.training["freeze"] == "layer2"
    trained = loaded.network.encoder.state_dict()
    for name in ("conv1.weight", "bn1.running_mean", "layer2.1.conv2.weight", "layer2.1.bn2.bias"):
        assert torch.equal(trained[name], state[name]), name
    for name in ("layer3.0.conv1.weight", "layer3.0.bn1.running_mean", "layer4.1.conv2.weight"):
        assert not torch.equal(trained[name], state[name]), name


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
    (["--scores", "position", "--features", "none"], 2, "needs 3 held-out normal images, got 1"),
    (["--attention", "exact", "--target-layer", "layer1"], 2, "no anomaly map exact@layer1"),
    (["--guidance", "none", "--target-layer", "neck"], 2, "no layer neck; this model has layer1"),
    (["--head", "flatten", "--neck", "none"], 2, "head must be gap with a neck or a frozen"),
    (
        ["--encoder", "resnet18", "--head", "flatten", "--neck", "none"],
        2,
        "--guidance synthetic needs --head gap",
    ),
    (["--guidance-ratio", "0"], 2, "--guidance-ratio must be > 0"),
    (["--head", "flatten", "--neck", "fpn"], 2, "head must be gap with a neck"),
]


@pytest.mark.parametrize(("extra", "code", "message"), BAD_INPUT, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_line_with_its_code(
    data: Path, tmp_path: Path, extra: list[str], code: int, message: str
) -> None:
    outcome = train(data, tmp_path / "runs", *extra)
    assert outcome.code == code
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    assert re.search(message, outcome.stderr)
    assert outcome.stdout == ""
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_a_training_that_was_killed_before_its_first_state_begins_anew(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "disc"
    folder.mkdir()
    (folder / "metrics.csv").write_text("epoch\n1\n")
    (folder / "settings.toml").write_text("# anomaly-cli\n")
    (folder / ".01234567.partial").write_bytes(bytes(1000))
    assert train(data, tmp_path, *PLAIN, epochs=1).code == 5
    outcome = train(data, tmp_path, "--resume", *PLAIN, epochs=1)
    assert outcome.code == 0, outcome.stderr
    (tmp_path / "other/disc").mkdir(parents=True)
    (tmp_path / "other/disc/notes.txt").write_text("the user's")
    assert train(data, tmp_path / "other", "--resume", *PLAIN, epochs=1).code == 5


def test_an_overwriting_training_that_was_killed_at_once_is_resumed(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old model, which is still there, does not pass for the new one."""
    assert train(data, tmp_path, "--seed", 1, epochs=1).code == 0

    def stop(_trainer: Trainer) -> Iterator[Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", stop)
        assert train(data, tmp_path, "--overwrite", epochs=3).code == 130
    model = tmp_path / "disc/model.safetensors"
    assert load_model(model).record.training["seed"] == 1
    assert train(data, tmp_path, epochs=3).code == 5
    assert train(data, tmp_path, "--resume", epochs=3).code == 0
    assert model.read_bytes() == whole.read_bytes()


def test_too_little_shared_memory_is_told_and_done_without(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit.shutil, "disk_usage", lambda _path: SimpleNamespace(free=4096))
    outcome = train(data, tmp_path, "--workers", 2, *PLAIN, epochs=1)
    assert outcome.code == 0, outcome.stderr
    assert f"{fit.SHARED_MEMORY} is too small for --workers 2" in outcome.stderr


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
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = train(data, tmp_path / "file")
    assert outcome.code == 5
    assert "epoch" not in outcome.stderr


def test_a_root_that_is_a_category_gets_a_hint(data: Path, tmp_path: Path) -> None:
    outcome = train(data / "disc", tmp_path / "runs")
    assert outcome.code == 3
    assert f"did you mean --data {data} --category disc?" in outcome.stderr


def test_three_images_are_enough(tmp_path: Path) -> None:
    write_category(tmp_path / "data", "disc", train=3, test=1)
    assert train(tmp_path / "data", tmp_path / "runs", epochs=1).code == 0
    write_png(tmp_path / "two/disc/train/good/0.png", draw_part(0))
    outcome = train(tmp_path / "two", tmp_path / "other")
    assert outcome.code == 3
    assert "at least 3" in outcome.stderr
