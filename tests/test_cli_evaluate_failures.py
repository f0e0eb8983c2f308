"""`evaluate` of several categories, some of which fail: what is finished is kept and reported."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from conftest import Trained, run_cli
from example_maps import evaluate, read, write_split

from anomaly_cli.evaluation.reports.write import FILES, file_names
from anomaly_cli.files.images import write_png
from anomaly_cli.files.read import read_image, read_mask
from anomaly_cli.files.resize import resize_image, resize_mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write `bolt`, `ring` and `wood`; a mask of `ring` is damaged."""
    for category in ("bolt", "ring", "wood"):
        write_split(tmp_path, category)
    mask = tmp_path / "data/ring/ground_truth/hole/001_mask.png"
    mask.write_bytes(mask.read_bytes()[:40])
    return tmp_path


def test_finished_rows_survive_in_every_format(root: Path) -> None:
    outcome = evaluate(root)
    assert outcome.code == 3
    lines = outcome.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ring: cannot read")] == lines[:1]
    assert lines[-1] == "error: 1 of 3 categories failed: ring"
    assert "1 of 3 categories could not be evaluated" in outcome.stdout
    report = read(root)
    assert [row["category"] for row in report["categories"]] == ["bolt", "wood"]
    (failed,) = report["failed"]
    assert (failed["category"], failed["error"], failed["exit_code"]) == ("ring", "DataError", 3)
    assert "hole/001_mask.png" in failed["reason"]
    rows = list(csv.DictReader((root / "out/report.csv").open()))
    assert [(row["category"], bool(row["error"])) for row in rows] == [
        ("bolt", False), ("wood", False), ("ring", True),
    ]  # fmt: skip
    for name in ("report.md", "report.html"):
        text = (root / "out" / name).read_text()
        assert "Not evaluated" in text
        assert "001_mask.png" in text.replace("&#95;", "_")
    (error,) = ET.parse(root / "out/junit.xml").findall(".//error")  # noqa: S314
    assert "001_mask.png" in error.get("message", "")


def test_report_of_the_others_is_what_it_would_be_without_the_failed_one(root: Path) -> None:
    evaluate(root, output="three")
    shutil.rmtree(root / "maps/ring")
    assert evaluate(root, output="two").code == 0
    assert read(root, "three")["categories"] == read(root, "two")["categories"]


def test_single_category_that_fails_leaves_no_report(root: Path) -> None:
    outcome = evaluate(root, "--category", "ring")
    assert outcome.code == 3
    assert outcome.stderr.startswith("error: cannot read")
    assert not list((root / "out").iterdir())


def test_bar_that_is_not_met_does_not_hide_an_error(root: Path) -> None:
    """Exit code of the error; the bar is a warning."""
    outcome = evaluate(root, "--fail-under", "pixel_auroc=0.999")
    assert outcome.code == 3
    assert "warning: 2 of 2 bars are not met: bolt: pixel_auroc" in outcome.stderr
    assert evaluate(root, "--exit-zero", output="again").code == 3


def test_neither_a_failed_category_nor_a_mean_without_it_meets_a_bar(root: Path) -> None:
    """`wood` is the only texture and finished, so the mean of textures is what it should be."""
    bars = [f"{scope}:pixel_auroc=0" for scope in ("ring", "objects", "all", "textures", "bolt")]
    outcome = evaluate(root, *(part for bar in bars for part in ("--fail-under", bar)))
    assert outcome.code == 3
    assert {gate["category"]: gate["is_met"] for gate in read(root)["gates"]} == {
        "ring": False, "objects": False, "all": False, "textures": True, "bolt": True,
    }  # fmt: skip
    assert "ring: pixel_auroc n/a falls short of 0" in outcome.stderr


def test_baseline_of_a_failed_category_is_not_met(root: Path) -> None:
    whole = root / "whole"
    write_split(whole, "ring")
    evaluate(whole)
    outcome = evaluate(root, "--baseline", whole / "out/report.json")
    assert outcome.code == 3
    assert not any(gate["is_met"] for gate in read(root)["gates"])


def test_report_is_written_even_if_every_category_failed(root: Path) -> None:
    for category in ("bolt", "wood"):
        write_png(root / f"data/{category}/ground_truth/cut/000_mask.png", np.zeros((40, 60), bool))
    outcome = evaluate(root, "--json")
    assert outcome.code == 3
    assert outcome.stderr.count("error: ") == 4
    report = json.loads(outcome.stdout)
    assert report["categories"] == []
    assert [row["category"] for row in report["failed"]] == ["bolt", "ring", "wood"]
    assert report["means"] == {}
    assert {path.name for path in (root / "out").iterdir()} == {
        *file_names(FILES),
        "settings.toml",
    }


def test_wrong_threshold_ends_the_run_before_any_report(root: Path) -> None:
    """It is at fault for all categories, not for one."""
    outcome = evaluate(root, "--threshold", "high")
    assert outcome.code == 2
    assert outcome.stderr.count("error: ") == 1
    assert not list((root / "out").glob("*"))


def test_interrupt_leaves_nothing_half_written(root: Path) -> None:
    """Ctrl-C while maps are read: no report, exit code 130."""
    code = (
        "import sys, time; import anomaly_cli.evaluation.evaluate as module\n"
        "from anomaly_cli.cli import main\n"
        "whole = module.summarize\n"
        "def slow(*given, **named):\n"
        "    print('summarizing', flush=True); time.sleep(30); return whole(*given, **named)\n"
        "module.summarize = slow\n"
        f"sys.argv[1:] = ['evaluate', '--maps', {str(root / 'maps')!r}, '--data', "
        f"{str(root / 'data')!r}, '--output', {str(root / 'out')!r}]\n"
        "main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that runs the tests in the background makes them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "summarizing\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert not list((root / "out").iterdir())


# Models


@pytest.fixture
def models(trained: Trained, tmp_path: Path) -> Path:
    """Copy data and model of `disc` for both `disc` and `ring`."""
    for name in ("disc", "ring"):
        shutil.copytree(trained.data / "disc", tmp_path / "data" / name)
        shutil.copytree(trained.runs / "disc", tmp_path / "runs" / name)
    return tmp_path


def evaluate_models(root: Path, *options: object) -> tuple[int, str, dict]:
    """Return exit code, stderr and report."""
    outcome = run_cli(
        "evaluate", "--runs", root / "runs", "--data", root / "data", "--output", root / "out",
        "--replicates", 0, *options,
    )  # fmt: skip
    return outcome.code, outcome.stderr, read(root)


def test_damaged_model_is_the_failure_of_its_category(models: Path) -> None:
    path = models / "runs/ring/model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    code, stderr, report = evaluate_models(models)
    assert code == 4
    assert [row["category"] for row in report["categories"]] == ["disc"]
    assert report["failed"][0]["error"] == "CheckpointError"
    assert "error: ring: " in stderr


def test_training_that_left_no_model_is_reported(models: Path) -> None:
    """The folder of a run that was killed; a category that was never trained is a note."""
    (models / "runs/ring/model.safetensors").unlink()
    shutil.copytree(models / "data/disc", models / "data/bolt")
    code, stderr, report = evaluate_models(models)
    assert code == 4
    assert "ring/model.safetensors does not exist" in report["failed"][0]["reason"]
    assert "no model of bolt under" in stderr


def test_models_can_be_counted_in_a_stream(models: Path) -> None:
    """Maps of a model differ in the last bits from batch to batch, not more."""
    code, _stderr, exact = evaluate_models(models, "--category", "disc")
    shutil.rmtree(models / "out")
    again, stderr, streaming = evaluate_models(
        models, "--category", "disc", "--counting", "streaming", "--fail-under", "pixel_auroc=0.01"
    )
    assert (code, again) == (0, 0), stderr
    (old,), (new,) = exact["categories"], streaming["categories"]
    low, high = new["ranges"]["pixel_auroc"]
    assert low - 1e-6 <= old["pixel_auroc"] <= high + 1e-6
    assert new["iou"] == pytest.approx(old["iou"], abs=1e-3)


def test_masks_turned_against_their_images_are_refused(trained: Trained, tmp_path: Path) -> None:
    """A mask that was drawn on the stored pixels of a photograph that its EXIF turns."""
    root = tmp_path / "mvtec"
    shutil.copytree(trained.data, root)
    for path in (root / "disc/test/hole").iterdir():
        write_png(path, resize_image(read_image(path), 64, 96))
    outcome = run_cli(
        "evaluate", "--data", root, "--runs", trained.runs, "--output", tmp_path / "a"
    )
    assert outcome.code == 3
    assert "000.png has 64 x 96 pixels (upright), but" in outcome.stderr
    for path in (root / "disc/ground_truth/hole").iterdir():
        write_png(path, resize_mask(read_mask(path), 32, 48))  # half the size, upright
    outcome = run_cli(
        "evaluate", "--data", root, "--runs", trained.runs, "--output", tmp_path / "b"
    )
    assert outcome.code == 0, outcome.stderr


def test_masks_that_vanish_are_counted_in_every_format(trained: Trained, tmp_path: Path) -> None:
    root = tmp_path / "mvtec"
    shutil.copytree(trained.data, root)
    for number, path in enumerate(sorted((root / "disc/ground_truth/hole").iterdir())):
        mask = resize_mask(read_mask(path), 640, 640)
        if number == 1:
            mask[:] = False
            mask[100:103, 100:103] = True
        write_png(path, mask)
    outcome = run_cli(
        "evaluate", "--data", root, "--runs", trained.runs, "--output", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    text = "1 of 3 masks are so small that they mark nothing at 64 pixels a side"
    assert text in outcome.stderr
    (row,) = json.loads((tmp_path / "out/report.json").read_text())["categories"]
    assert text in row["lacks"]
    for name in ("report.md", "report.html", "report.csv"):
        assert text in (tmp_path / "out" / name).read_text(), name
    kept = run_cli(
        "evaluate", "--data", root, "--runs", trained.runs, "--output", tmp_path / "kept",
        "--mask-resizing", "area", "--baseline", tmp_path / "out/report.json", "--exit-zero",
    )  # fmt: skip
    assert "are so small" not in kept.stderr
    assert "disc mask_resizing: nearest, now area" in kept.stderr
    (row,) = json.loads((tmp_path / "kept/report.json").read_text())["categories"]
    assert row["regions"] == 3
    assert "masks by area" in (tmp_path / "kept/report.md").read_text()
