"""`disentangle` from the command line: files, resumption, the comparison, and bad input."""

import csv
import json
import pickle
import re
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, run_cli
from PIL import Image

from anomaly_cli.commands import disentangle as command
from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.disentangle.runs import load_run
from anomaly_cli.disentangle.training import StepStats, Trainer
from anomaly_cli.errors import CheckpointError, TrainingError
from anomaly_cli.files.tensors import write_state

TINY = ("--steps", 4, "--batch-size", 2, "--score-images", 1000)
WEIGHTS = ("--compare", "beta-vae:1,beta-vae:4", "--compare", "factor-vae:.5", "--seeds", 1)
FILES = {
    "attention.png",
    "curves.png",
    "metrics.csv",
    "model.safetensors",
    "mutual_information.png",
    "report.html",
    "scores.json",
    "settings.toml",
    "traversals.png",
}


def disentangle(*options: object) -> Outcome:
    """Run the command with a short training."""
    return run_cli("disentangle", *TINY, *options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finish a run, and return its folder."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    outcome = disentangle("--method", "ad-factor-vae", "--output", folder, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    return folder


def test_a_run_leaves_model_scores_statistics_and_pictures(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == FILES
    record = json.loads((finished / "scores.json").read_text())
    assert record["schema_version"] == 1
    assert record["method"] == "ad-factor-vae"
    assert (record["settings"]["gamma"], record["settings"]["lambda"]) == (40.0, 1.0)
    assert np.shape(record["mutual_information"]) == (5, 10)
    rows = list(csv.DictReader((finished / "metrics.csv").open()))
    assert tuple(rows[0]) == StepStats._fields
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["reconstruction"]) == record["training"]["reconstruction"]
    for name in FILES:
        if name.endswith(".png"):
            with Image.open(finished / name) as picture:
                assert min(picture.size) > 300


def test_the_model_file_can_be_read_back(finished: Path) -> None:
    run = load_run(finished)
    assert not run.vae.training
    assert run.name == "ad-factor-vae:40, seed 0"
    assert run.information.shape == (5, 10)
    assert run.history[-1].step == 4


def test_other_commands_refuse_the_model_in_one_line(finished: Path) -> None:
    outcome = run_cli("localize", finished, finished / "attention.png")
    assert outcome.code == 4
    assert "was not written by anomaly-cli train" in outcome.stderr


def test_the_page_needs_nothing_else(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "<script" not in page
    assert "color-scheme" in page
    for words in (
        "FactorVAE score",
        "\N{GREEK SMALL LETTER GAMMA} = 40: 0.93",
        "Mutual information",
        "ad-factor-vae:40, seed 0",
    ):
        assert words in page


def test_a_folder_in_use_is_refused_and_a_finished_run_is_kept(finished: Path) -> None:
    refused = disentangle("--output", finished)
    assert refused.code == 5
    assert "--resume" in refused.stderr
    before = (finished / "model.safetensors").stat().st_mtime_ns
    kept = disentangle("--output", finished, "--resume", "--json")
    assert kept.code == 0
    assert (finished / "model.safetensors").stat().st_mtime_ns == before
    assert json.loads(kept.stdout) == json.loads((finished / "scores.json").read_text())
    changed = disentangle("--output", finished, "--resume", "--lambda", 2)
    assert changed.code == 2
    assert "other settings (lambda)" in changed.stderr


def test_a_model_of_another_run_is_noticed(finished: Path, tmp_path: Path) -> None:
    for name in ("scores.json", "metrics.csv", "model.safetensors"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    outcome = disentangle("--output", tmp_path, "--resume")
    assert outcome.code == 4
    assert "another run" in outcome.stderr
    (tmp_path / "model.safetensors").write_bytes(content[:1000])
    assert disentangle("--output", tmp_path, "--resume").code == 4
    (tmp_path / "scores.json").write_text("{}")
    outcome = disentangle("--output", tmp_path, "--resume")
    assert outcome.code == 4
    assert "scores.json is damaged: 'scores'; --overwrite starts anew" in outcome.stderr


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("scores.json", '{"scores": []}'),
        ("scores.json", '{"scores": {}, "mutual_information": [1e999]}'),
        ("scores.json", "[" * 100_000),
        ("metrics.csv", "step\n" + "9" * 200_000),  # a cell longer than csv reads
        ("metrics.csv", "step\n" + "9" * 400),
        ("metrics.csv", "unknown\n1"),
        ("metrics.csv", "step,kl\n1\0,2\0"),
    ],
)
def test_files_of_a_run_that_are_damaged_are_one_line(
    finished: Path, tmp_path: Path, file: str, content: str
) -> None:
    for name in ("scores.json", "metrics.csv", "model.safetensors"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match=r"is damaged: .*; --overwrite starts anew"):
        load_run(tmp_path)


def test_an_interrupted_run_ends_as_an_undisturbed_one(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the third step keeps the state of the second."""
    inner = Trainer.train_step

    def interrupt(trainer: Trainer, batches: object) -> None:
        if trainer.step == 2:
            raise KeyboardInterrupt
        inner(trainer, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "SAVE_EVERY", -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupt)
        stopped = disentangle("--output", tmp_path / "run")
    assert stopped.code == 130
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "metrics.csv",
        "settings.toml",
        "training_state.pt",
    }
    assert disentangle("--output", tmp_path / "run").code == 5
    resumed = disentangle("--output", tmp_path / "run", "--resume")
    assert resumed.code == 0, resumed.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    weights = [
        (folder / "model.safetensors").read_bytes() for folder in (finished, tmp_path / "run")
    ]
    assert weights[0] == weights[1]


def test_a_run_that_was_killed_before_its_first_state_begins_anew(
    finished: Path, tmp_path: Path
) -> None:
    """Its statistics tell it from a folder of the user's."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").write_text("name,value\n")
    assert disentangle("--output", run, "--resume").code == 5
    lines = (finished / "metrics.csv").read_text().splitlines(keepends=True)
    (run / "metrics.csv").write_text("".join(lines[:2]))
    (run / ".0a1b2c3d.partial").write_bytes(bytes(1000))
    refused = disentangle("--output", run)
    assert (refused.code, "--resume" in refused.stderr) == (5, True)
    resumed = disentangle("--output", run, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert {path.name for path in run.iterdir()} == FILES
    for name in ("model.safetensors", "attention.png"):
        assert (run / name).read_bytes() == (finished / name).read_bytes()


def test_a_damaged_state_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "training_state.pt").write_bytes(b"nothing")
    outcome = disentangle("--output", tmp_path, "--resume")
    assert outcome.code == 4
    assert "not a training state" in outcome.stderr
    write_state(tmp_path / "training_state.pt", {"settings": {}})
    assert disentangle("--output", tmp_path, "--resume").code == 2


def test_a_seed_that_fails_costs_no_other_and_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second seed fails at first; what was complete is kept, reported, and not done again."""
    options = ("--compare", "beta-vae,ad-beta-vae", "--seeds", 2, "--output", tmp_path)

    def diverge(trainer: Trainer, batches: object) -> None:
        if trainer.config.seed == 1:
            raise TrainingError("diverged")
        inner(trainer, batches)  # type: ignore[arg-type]

    inner = Trainer.train_step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", diverge)
        failed = disentangle(*options)
    assert failed.code == 7
    last = failed.stderr.splitlines()[-1]
    names = "beta-vae:4, seed 1; ad-beta-vae:4, seed 1"
    assert last.endswith(f"2 failed: {names}; first error: diverged")
    document = json.loads((tmp_path / "comparison.json").read_text())
    row = document["entries"][1]["differences"][0]
    assert (row["pairs"], row["low"]) == (1, None)
    assert document["failures"] == dict.fromkeys(names.split("; "), "diverged")
    resumed = disentangle(*options, "--resume", "--json")
    assert resumed.code == 0, resumed.stderr
    assert resumed.stderr.count("already finished; kept") == 2
    assert json.loads(resumed.stdout) == json.loads((tmp_path / "comparison.json").read_text())
    table = disentangle(*options, "--resume")
    assert "Student t" in table.stdout
    check_pairs(json.loads(resumed.stdout))
    page = (tmp_path / "report.html").read_text()
    assert "ad-beta-vae:4 minus beta-vae:4" in page
    assert "\N{GREEK SMALL LETTER BETA} = 4: 0.73" in page


def check_pairs(document: Any) -> None:
    """Check the differences of two entries on two seeds against the statistics of the runs."""
    assert document["reference"] == "beta-vae:4"
    assert [run["method"] for run in document["runs"]] == ["beta-vae"] * 2 + ["ad-beta-vae"] * 2
    assert [run["settings"]["seed"] for run in document["runs"]] == [0, 1] * 2
    reference, other = document["entries"]
    assert reference["differences"] == []
    row = next(row for row in other["differences"] if row["name"] == "overlap")
    training = [run["training"]["overlap"] for run in document["runs"]]
    expected = [training[2] - training[0], training[3] - training[1]]
    assert list(row["differences"].values()) == pytest.approx(expected)
    assert row["low"] < row["difference"] < row["high"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Compare three entries on one seed; two of them are of one method."""
    folder = tmp_path_factory.mktemp("compared")
    outcome = disentangle(*WEIGHTS, "--output", folder)
    assert outcome.code == 0, outcome.stderr
    return outcome


@pytest.fixture
def weights(compared: Outcome, tmp_path: Path) -> Path:
    """Copy the folder of this comparison."""
    (line,) = (line for line in compared.stderr.splitlines() if "written to" in line)
    folder = Path(line.split("written to ")[1].split(" (full")[0])
    copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_each_weight_of_a_method_has_its_folder_and_its_row(weights: Path) -> None:
    for entry in ("beta-vae-1", "beta-vae", "factor-vae-0.5"):
        assert (weights / entry / "seed-0/scores.json").is_file()
    document = json.loads((weights / "comparison.json").read_text())
    entries = {entry["entry"]: entry for entry in document["entries"]}
    assert list(entries) == ["beta-vae:1", "beta-vae:4", "factor-vae:0.5"]
    assert [entry["paper"] for entry in entries.values()] == [0.69, 0.73, None]
    assert [run["settings"]["beta"] for run in document["runs"]] == [1.0, 4.0, 1.0]
    assert document["runs"][2]["settings"]["gamma"] == 0.5
    score = [run["scores"]["factor_vae"] for run in document["runs"]]
    assert [entry["scores"]["factor_vae"]["mean"] for entry in entries.values()] == score
    assert entries["beta-vae:4"]["deviation"] == pytest.approx(score[1] - 0.73)
    table = list(csv.DictReader((weights / "comparison.csv").open()))
    assert [float(row["mean"]) for row in table] == pytest.approx(score)
    assert float(table[2]["minus beta-vae:1"]) == pytest.approx(score[2] - score[0])
    assert "| beta-vae:4 |" in (weights / "comparison.md").read_text()


def test_costs_are_told_before_the_first_step(compared: Outcome) -> None:
    cost = compared.stderr.index("estimated cost: 3 trainings, 12 steps, about ")
    assert "beta-vae:1: 1 training, 4 steps of " in compared.stderr[:cost]
    assert cost < compared.stderr.index("step 1/4")


def test_an_estimate_trains_nothing_and_counts_only_what_is_left(
    weights: Path, tmp_path: Path
) -> None:
    options = ("--compare", "beta-vae:1,beta-vae,factor-vae", "--seeds", 2, "--estimate", "--json")
    outcome = disentangle(*options, "--output", weights)
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    rows = {row["entry"]: row for row in document["entries"]}
    assert [row["trainings"] for row in rows.values()] == [1, 1, 2]
    assert [row["steps"] for row in rows.values()] == [4, 4, 8]
    assert document["seconds"] == pytest.approx(sum(row["seconds"] for row in rows.values()))
    assert rows["factor-vae:40"]["seconds"] > 8 * rows["factor-vae:40"]["step"] > 0
    outcome = disentangle("--estimate", "--output", tmp_path / "none")
    assert "ad-factor-vae:40" in outcome.stdout
    assert not (tmp_path / "none").exists()


def test_a_damaged_run_is_one_line_and_costs_no_other(weights: Path) -> None:
    """It is found before the others train, and repeated when its folder is gone."""
    (weights / "beta-vae/seed-0/scores.json").write_text("{}")
    rmtree(weights / "factor-vae-0.5")
    outcome = disentangle(*WEIGHTS, "--output", weights, "--resume")
    assert outcome.code == 4
    (line,) = (x for x in outcome.stderr.splitlines() if x.startswith("error: beta-vae:4, seed 0"))
    assert line.endswith(f"remove {weights / 'beta-vae/seed-0'} to repeat this training alone")
    assert outcome.stderr.index(line) < outcome.stderr.index("estimated cost: 1 training, 4 steps")
    assert "1 failed: beta-vae:4, seed 0; first error: " in outcome.stderr.splitlines()[-1]
    document = json.loads((weights / "comparison.json").read_text())
    assert [entry["seeds"] for entry in document["entries"]] == [[0], [], [0]]
    assert "beta-vae:4, seed 0 failed" in (weights / "report.html").read_text()
    rmtree(weights / "beta-vae")
    (weights / "beta-vae/seed-0").mkdir(parents=True)
    (weights / "beta-vae/seed-0/training_state.pt").write_bytes(b"nothing")
    assert disentangle(*WEIGHTS, "--output", weights, "--resume").code == 4
    rmtree(weights / "beta-vae")
    outcome = disentangle(*WEIGHTS, "--output", weights, "--resume")
    assert outcome.code == 0, outcome.stderr
    assert outcome.stderr.count("already finished; kept") == 2


def test_other_settings_are_noticed_before_anything_trains(weights: Path) -> None:
    outcome = disentangle(
        "--compare", "ad-beta-vae,beta-vae:1", "--seeds", 1, "--output", weights, "--resume",
        "--learning-rate", 0.5,
    )  # fmt: skip
    assert outcome.code == 2
    assert "beta-vae-1/seed-0/scores.json was trained with other settings" in outcome.stderr
    assert not (weights / "ad-beta-vae").exists()


def test_a_comparison_of_which_nothing_is_left_ends_with_its_error(tmp_path: Path) -> None:
    for name in ("beta-vae", "factor-vae"):
        (tmp_path / name / "seed-0").mkdir(parents=True)
        (tmp_path / name / "seed-0/scores.json").write_text("nothing")
    options = ("--compare", "beta-vae,factor-vae", "--seeds", 1, "--output", tmp_path, "--resume")
    outcome = disentangle(*options)
    assert outcome.code == 4
    assert "2 failed: beta-vae:4, seed 0; factor-vae:40, seed 0" in outcome.stderr
    assert not (tmp_path / "comparison.json").exists()


def test_table_3_stands_for_the_entries_of_the_paper() -> None:
    entries = [entry.label for entry in DisentangleConfig(compare=("table3",)).entries]
    assert entries == [
        "factor-vae:40", "beta-vae:1", "beta-vae:4", "beta-vae:6", "beta-vae:16", "factor-vae:10",
        "factor-vae:20", "factor-vae:100", "ad-factor-vae:10", "ad-factor-vae:20",
        "ad-factor-vae:40", "ad-factor-vae:100",
    ]  # fmt: skip
    more = DisentangleConfig(compare=("beta-vae:2,table3", "ad-beta-vae"), seeds=2)
    assert [entry.label for entry in more.entries] == ["beta-vae:2", *entries, "ad-beta-vae:4"]
    first = DisentangleConfig(compare=("ad-factor-vae", "table3"))
    assert [entry.label for entry in first.entries][:2] == ["ad-factor-vae:40", "factor-vae:40"]
    assert len(first.entries) == len(set(first.entries)) == 12
    trainings = more.trainings()
    assert [training.name for training in trainings[:2]] == [
        "beta-vae:2, seed 0", "factor-vae:40, seed 0",
    ]  # fmt: skip
    folders = [training.output.relative_to("results") for training in trainings]
    assert folders[0] == Path("beta-vae-2/seed-0")
    assert folders[1] == Path("factor-vae/seed-0")
    assert len(set(folders)) == len(folders) == 28


def test_weights_of_options_are_those_of_entries_without_their_own() -> None:
    config = DisentangleConfig(
        compare=("factor-vae,ad-factor-vae:10,beta-vae",), gamma=20, overlap=2
    )
    assert [entry.label for entry in config.entries] == [
        "factor-vae:20", "ad-factor-vae:10", "beta-vae:4",
    ]  # fmt: skip
    weights = [
        (own.objective(own.method).gamma, own.objective(own.method).overlap)
        for own in config.trainings()[:3]
    ]
    assert weights == [(20, 0), (10, 2), (0, 0)]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--gamma", -1), 2, "--gamma must be zero or positive"),
        (("--lambda", -1), 2, "--lambda must be zero or positive"),
        (("--lambda", "nan"), 2, "--lambda must be zero or positive"),
        (("--beta", -0.5), 2, "--beta must be zero or positive"),
        (("--method", "factor-vae", "--lambda", 1), 2, "--lambda is not supported with factor-vae"),
        (("--method", "beta-vae", "--gamma", 1), 2, "--gamma is not supported with beta-vae"),
        (("--method", "gan"), 2, "Invalid value"),
        (("--compare", "factor-vae,gan"), 2, "--compare gan: no such method"),
        (("--compare", "factor-vae,factor-vae:40"), 2, "--compare names factor-vae:40 twice"),
        (("--compare", "factor-vae", "ad-factor-vae"), 2, "with commas between them"),
        (("--compare", "beta-vae:4"), 2, "needs two entries or more"),
        (("--compare", "beta-va:4,beta-vae"), 2, "did you mean beta-vae?"),
        (("--compare", "beta-vae:x,beta-vae"), 2, "beta-vae:x: the beta after the colon must be"),
        (("--compare", "beta-vae,factor-vae:-1"), 2, "the gamma after the colon must be"),
        (("--compare", "beta-vae,factor-vae:"), 2, "the gamma after the colon must be"),
        (("--compare", "beta-vae,"), 2, "--compare : no such method"),
        (("--compare", "factor-vae:1,factor-vae:2", "--gamma", 3), 2, "--gamma is not supported"),
        (("--steps", 0), 2, "--steps must be at least 1"),
        (("--learning-rate", 0), 2, "positive"),
        (("--score-images", 10), 2, "--score-images must be"),
        (("--device", "tpu"), 6, "--device tpu"),
        (("--data", "nowhere.npz"), 3, "nowhere.npz"),
    ],
)
def test_bad_options_are_one_line(
    tmp_path: Path, options: tuple[object, ...], code: int, words: str
) -> None:
    outcome = disentangle("--output", tmp_path, *options)
    assert outcome.code == code, outcome.stderr
    assert words in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stdout == ""


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.path,))  # type: ignore[return-value]


def test_bad_archives_are_one_line(tmp_path: Path) -> None:
    """Truncated, with other keys, and one that would run code."""
    good = tmp_path / "keys.npz"
    np.savez(good, pictures=np.zeros((3, 64, 64), np.uint8))
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:200])
    bomb = tmp_path / "bomb.npz"
    np.savez(bomb, imgs=np.array([Bomb(tmp_path / "ran")], object))
    assert pickle.dumps(Bomb(tmp_path))
    for name in ("keys.npz", "cut.npz", "bomb.npz"):
        outcome = disentangle("--output", tmp_path / "out", "--data", tmp_path / name)
        assert outcome.code == 3, outcome.stderr
        assert name in outcome.stderr
        assert outcome.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()
