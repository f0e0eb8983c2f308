"""Commands in the processes of torchrun: files and figures of one process, also after a kill."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained, draw_hole, draw_part, run_cli, write_category
from test_shards import contents

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.team import Team, join_team
from anomaly_cli.detector.together import train_together
from anomaly_cli.errors import ConfigError, DeviceError
from anomaly_cli.files.images import write_png
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.fit import make_trainer

ROOT = Path(__file__).parent.parent


def launch(processes: int, *arguments: object, restarts: int = 0) -> subprocess.Popen[str]:
    """Start a command with torchrun on this machine."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", processes, "--max-restarts", restarts, "--monitor-interval", 0.1),
        *("-m", "anomaly_cli", *arguments),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, command)),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_images(folder: Path, count: int) -> Path:
    for place in range(count):
        image = draw_hole(place)[0] if place % 2 else draw_part(place)
        write_png(folder / f"{place:03}.png", image)
    return folder


@pytest.mark.parametrize("processes", [2, 4])
def test_localize_writes_the_files_of_one_process(
    trained: Trained, tmp_path: Path, processes: int
) -> None:
    images = write_images(tmp_path / "in", 7)
    (images / "006.png").write_bytes(b"")  # of the last process
    options = ("localize", trained.model, images, "--batch-size", 2, "--output")
    alone = run_cli(*options, tmp_path / "one")
    run = launch(processes, *options, tmp_path / "team")
    stdout, stderr = run.communicate(timeout=300)
    assert run.returncode == 1  # of torchrun, for the 3 of the first process
    assert contents(tmp_path / "team") == contents(tmp_path / "one")
    assert stdout == alone.stdout
    assert stderr.count("006.png") == 1
    assert stderr.count("1 of 7 images could not be read") == 1


def find_worker(launcher: int, rank: int) -> int:
    """Find the process of a rank among the children of a launcher."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for child in children:
        if f"\0RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text():
            return int(child)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_worker_is_restarted_and_goes_on(trained: Trained, tmp_path: Path) -> None:
    """All files are those of one process, and finished images are not done again."""
    images = write_images(tmp_path / "in", 240)
    options = ("localize", trained.model, images, "--batch-size", 4, "--workers", 1, "--output")
    assert run_cli(*options, tmp_path / "one").code == 0
    out = tmp_path / "team"
    manifest = out / "manifest.2-of-2.jsonl"
    run = launch(2, *options, out, restarts=1)
    while not manifest.is_file() or manifest.read_bytes().count(b"\n") < 10:
        assert run.poll() is None, run.communicate()
        time.sleep(0.005)
    os.kill(find_worker(run.pid, 1), signal.SIGKILL)
    assert manifest.read_bytes().count(b"\n") < 100  # it was killed amid its 120 images
    written = {place: (out / f"maps/{place}.tiff").stat().st_ino for place in ("120", "127")}
    _, stderr = run.communicate(timeout=300)
    assert run.returncode == 0, stderr
    for path in out.rglob(".*.partial"):
        path.unlink()  # what a killed process had begun to write, which is no result
    assert contents(out) == contents(tmp_path / "one")
    for place, number in written.items():
        assert (out / f"maps/{place}.tiff").stat().st_ino == number


@pytest.mark.parametrize(("processes", "counting"), [(2, "exact"), (4, "streaming")])
def test_evaluate_has_the_figures_of_one_process(
    trained: Trained, tmp_path: Path, processes: int, counting: str
) -> None:
    """Every file of the report is equal, byte for byte."""
    options = (
        *("evaluate", "--runs", trained.runs, "--data", trained.data, "--counting", counting),
        *("--batch-size", 1, "--replicates", 20, "--output"),
    )
    alone = run_cli(*options, tmp_path / "one")
    assert alone.code == 0, alone.stderr
    run = launch(processes, *options, tmp_path / "team")
    stdout, stderr = run.communicate(timeout=300)
    assert run.returncode == 0, stderr
    assert contents(tmp_path / "team") == contents(tmp_path / "one")
    assert stdout == alone.stdout


def test_evaluate_names_the_first_bad_image_once(trained: Trained, tmp_path: Path) -> None:
    """Whichever process reads it, the error is that of one process."""
    data = tmp_path / "data"
    shutil.copytree(trained.data, data)
    for name in ("hole/001.png", "hole/002.png"):
        (data / "disc/test" / name).write_bytes(b"no image")
    options = (
        *("evaluate", "--runs", trained.runs, "--data", data, "--batch-size", 1),
        *("--replicates", 0, "--output"),
    )
    alone = run_cli(*options, tmp_path / "one")
    assert alone.code == 3
    run = launch(2, *options, tmp_path / "team")
    _, stderr = run.communicate(timeout=300)
    assert run.returncode == 1
    (line,) = alone.stderr.splitlines()
    assert "001.png" in line
    assert stderr.count(line) == 1
    assert "002.png" not in stderr


def test_train_shares_the_categories_and_makes_the_models_of_one_process(tmp_path: Path) -> None:
    for name in ("disc", "plate", "ring"):
        write_category(tmp_path / "data", name, train=6)
    options = (
        *("train", "--data", tmp_path / "data", "--method", "ae-l2", "--image-size", 32),
        *("--epochs", 2, "--batch-size", 2, "--latent-dim", 4, "--output"),
    )
    alone = run_cli(*options, tmp_path / "one")
    assert alone.code == 0, alone.stderr
    run = launch(2, *options, tmp_path / "team")
    stdout, stderr = run.communicate(timeout=300)
    assert run.returncode == 0, stderr
    for name in ("disc", "plate", "ring"):
        models = [tmp_path / runs / name / "model.safetensors" for runs in ("one", "team")]
        assert models[0].read_bytes() == models[1].read_bytes()
        assert name in stdout


@pytest.mark.parametrize("method", ["vae", "feature-dictionary"])
def test_one_category_is_trained_by_all_processes(tmp_path: Path, method: str) -> None:
    """Batches are shared, so the steps are those of one process to rounding."""
    write_category(tmp_path / "data", "disc", train=9)
    options = ["train", "--data", tmp_path / "data", "--method", method, "--image-size", 64]
    if method == "feature-dictionary":
        options += ["--centres", 20, "--batch-size", 3]
    else:
        options += ["--epochs", 2, "--batch-size", 3, "--latent-dim", 4]
    alone = run_cli(*options, "--output", tmp_path / "one")
    assert alone.code == 0, alone.stderr
    run = launch(2, *options, "--output", tmp_path / "team")
    stdout, stderr = run.communicate(timeout=300)
    assert run.returncode == 0, stderr
    assert stdout.count("Trained models") == 1
    one, team = (load_model(tmp_path / runs / "disc") for runs in ("one", "team"))
    if method == "feature-dictionary":  # nothing is drawn or rounded in another way
        assert one.path.read_bytes() == team.path.read_bytes()
    rows = [
        list(csv.DictReader((tmp_path / runs / "disc/metrics.csv").open()))
        for runs in ("one", "team")
    ]
    assert [row["epoch"] for row in rows[0]] == [row["epoch"] for row in rows[1]]
    losses = [[float(row["held_out_loss"]) for row in of_run] for of_run in rows]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    images = draw_hole(3)[0]
    maps = [Detector.load(model.path).predict(images).network_map for model in (one, team)]
    assert np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1] > 0.9


def test_gradients_are_averaged_over_the_processes(tmp_path: Path) -> None:
    """An autoencoder draws nothing at random, so its losses are those of one process."""
    write_category(tmp_path / "data", "disc", train=9)
    options = (
        *("train", "--data", tmp_path / "data", "--method", "ae-l2", "--image-size", 64),
        *("--epochs", 4, "--batch-size", 4, "--latent-dim", 4, "--output"),
    )
    assert run_cli(*options, tmp_path / "one").code == 0
    run = launch(2, *options, tmp_path / "team")
    _, stderr = run.communicate(timeout=300)
    assert run.returncode == 0, stderr
    one, team = (
        list(csv.DictReader((tmp_path / runs / "disc/metrics.csv").open()))
        for runs in ("one", "team")
    )
    for name in ("reconstruction", "held_out_loss", "gradient_norm"):
        values = [[float(row[name]) for row in rows] for rows in (one, team)]
        assert values[1] == pytest.approx(values[0], rel=1e-3), name


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_model_of_many_processes_survives_a_kill(tmp_path: Path) -> None:
    """The training goes on after its last epoch, and ends in the same file."""
    write_category(tmp_path / "data", "disc", train=9)
    options = (
        *("train", "--data", tmp_path / "data", "--method", "ae-l2", "--image-size", 64),
        *("--epochs", 40, "--batch-size", 3, "--latent-dim", 4, "--output"),
    )
    quiet = launch(2, *options, tmp_path / "quiet")
    assert quiet.wait(300) == 0, quiet.communicate()
    run = launch(2, *options, tmp_path / "killed", restarts=1)
    metrics = tmp_path / "killed/disc/metrics.csv"
    while not metrics.is_file() or metrics.read_bytes().count(b"\n") < 4:
        assert run.poll() is None, run.communicate()
        time.sleep(0.005)
    os.kill(find_worker(run.pid, 1), signal.SIGKILL)
    assert metrics.read_bytes().count(b"\n") < 40
    _, stderr = run.communicate(timeout=300)
    assert run.returncode == 0, stderr
    files = [tmp_path / runs / "disc/model.safetensors" for runs in ("quiet", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_more_processes_than_images_of_a_batch_are_refused(tmp_path: Path) -> None:
    write_category(tmp_path, "disc", train=6)
    config = TrainConfig(data=tmp_path, category="disc", batch_size=2, guidance="none")
    images = open_training_set(config)
    refusal = "3 processes cannot share batches of 2 images; start fewer processes, or"
    team = Team(0, 3, is_restarted=False, group=None)
    with train_together(team), pytest.raises(ConfigError, match=refusal):
        make_trainer(config, images, torch.device("cpu"))
    make_trainer(config, images, torch.device("cpu"))


def test_shards_are_not_named_under_a_launcher(trained: Trained, tmp_path: Path) -> None:
    images = write_images(tmp_path / "in", 2)
    run = launch(1, "localize", trained.model, images, "--shard", "1/2", "--output", tmp_path / "o")
    _, stderr = run.communicate(timeout=300)
    assert run.returncode == 1
    assert "--shard is for runs without a launcher" in stderr
    assert not (tmp_path / "o").exists()


def test_without_a_launcher_there_is_no_team() -> None:
    with join_team("auto") as team:
        assert team is None


def test_a_machine_with_fewer_gpus_than_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match="process 3 of this machine has no GPU: 2 found"):
        join_team("auto").__enter__()
