"""`evaluate` end to end against scikit-learn, and the errors of a test split."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Trained, run_cli, threshold_of
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomaly_cli.detector.masks import anomaly_mask


@pytest.fixture
def data(trained: Trained, tmp_path: Path) -> Path:
    """Copy the data set, to be broken."""
    shutil.copytree(trained.data, tmp_path / "data")
    return tmp_path / "data"


def test_report_equals_scikit_learn_on_the_saved_maps(trained: Trained, tmp_path: Path) -> None:
    """Pixel AUROC, image AUROC and IoU, recomputed from what `localize` writes."""
    test = trained.data / "disc/test"
    run_cli("localize", trained.model, test, "--output", tmp_path / "out")
    outcome = run_cli(
        "evaluate",
        "--model",
        trained.model,
        "--data",
        trained.data,
        "--output",
        tmp_path / "report",
    )
    assert outcome.code == 0, outcome.stderr
    (row,) = json.loads((tmp_path / "report/report.json").read_text())["categories"]
    paths = sorted((tmp_path / "out/maps").rglob("*.tiff"))
    maps = np.stack([np.asarray(Image.open(path)) for path in paths])
    masks = np.zeros(maps.shape, bool)
    for place, path in enumerate(paths):
        if path.parent.name == "hole":
            truth = trained.data / f"disc/ground_truth/hole/{path.stem}_mask.png"
            masks[place] = np.asarray(Image.open(truth)) > 0
    assert row["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)
    labels = masks.any(axis=(1, 2))
    assert row["image_auroc"] == pytest.approx(roc_auc_score(labels, maps.max(axis=(1, 2))))
    threshold = threshold_of(row)
    called = np.stack([anomaly_mask(anomaly_map, threshold) for anomaly_map in maps])
    assert row["iou"] == pytest.approx((called & masks).sum() / (called | masks).sum())
    best = max(
        (masks & (maps >= value)).sum() / (masks | (maps >= value)).sum()
        for value in np.unique(maps[masks])
    )
    assert row["best_iou"] == pytest.approx(best)
    assert row["images"] == 6
    assert row["anomalous_images"] == 3


def test_the_report_names_the_scores(trained: Trained, tmp_path: Path) -> None:
    """Global scores are the same ranking in other units, and the report says so."""
    rows = []
    for scores in ("raw", "global"):
        run_cli(
            "evaluate", "--runs", trained.runs, "--data", trained.data, "--map", "reconstruction",
            "--scores", scores, "--output", tmp_path / scores, "--format", "json",
        )  # fmt: skip
        rows += json.loads((tmp_path / scores / "report.json").read_text())["categories"]
    assert [row["map"] for row in rows] == ["reconstruction", "reconstruction, global scores"]
    assert rows[0]["pixel_auroc"] == pytest.approx(rows[1]["pixel_auroc"], abs=1e-4)
    assert rows[0]["threshold"] != rows[1]["threshold"]


def test_reconstruction_finds_the_hole(trained: Trained, tmp_path: Path) -> None:
    """A red square on a grey disc: even the tiny model's residual ranks its pixels first."""
    run_cli(
        "evaluate", "--runs", trained.runs, "--data", trained.data, "--map", "reconstruction",
        "--output", tmp_path,
    )  # fmt: skip
    (row,) = json.loads((tmp_path / "report.json").read_text())["categories"]
    assert row["pixel_auroc"] > 0.95
    assert row["image_auroc"] == 1.0


def test_table_json_and_csv_agree(trained: Trained, tmp_path: Path) -> None:
    options = ["--runs", trained.runs, "--data", trained.data]
    table = run_cli("evaluate", *options, "--output", tmp_path / "a")
    printed = run_cli("evaluate", *options, "--output", tmp_path / "b", "--json")
    report = json.loads(printed.stdout)
    assert report == json.loads((tmp_path / "a/report.json").read_text())
    (row,) = csv.DictReader((tmp_path / "a/report.csv").open())
    assert float(row["pixel_auroc"]) == report["categories"][0]["pixel_auroc"]
    assert f"{float(row['pixel_auroc']):.3f}" in table.stdout
    assert "best IoU (oracle)" in table.stdout
    assert "report.json" in table.stderr


def test_means_stand_below_several_categories(trained: Trained, data: Path, tmp_path: Path) -> None:
    """Carpet is a texture, disc an object; the mean of all lies between them."""
    shutil.copytree(data / "disc", data / "carpet")
    runs = tmp_path / "runs"
    shutil.copytree(trained.runs / "disc", runs / "disc")
    shutil.copytree(trained.runs / "disc", runs / "carpet")
    outcome = run_cli("evaluate", "--runs", runs, "--data", data, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    for name in ("mean of textures", "mean of objects", "mean of all"):
        assert name in outcome.stdout
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["means"]["all"]["pixel_auroc"] == report["categories"][0]["pixel_auroc"]


def test_a_missing_mask_is_a_data_error(trained: Trained, data: Path, tmp_path: Path) -> None:
    (data / "disc/ground_truth/hole/001_mask.png").unlink()
    outcome = run_cli(
        "evaluate", "--runs", trained.runs, "--data", data, "--output", tmp_path / "out"
    )
    assert outcome.code == 3
    assert "test/hole/001.png has no mask; expected" in outcome.stderr
    assert not (tmp_path / "out/report.json").exists()


def test_an_empty_mask_is_a_data_error(trained: Trained, data: Path, tmp_path: Path) -> None:
    path = data / "disc/ground_truth/hole/001_mask.png"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    outcome = run_cli(
        "evaluate", "--runs", trained.runs, "--data", data, "--output", tmp_path / "out"
    )
    assert outcome.code == 3
    assert "marks nothing" in outcome.stderr


def test_a_truncated_test_image_ends_the_evaluation(
    trained: Trained, data: Path, tmp_path: Path
) -> None:
    """A metric over fewer images would be another metric."""
    path = data / "disc/test/good/000.png"
    path.write_bytes(path.read_bytes()[:400])
    outcome = run_cli(
        "evaluate", "--runs", trained.runs, "--data", data, "--output", tmp_path / "out"
    )
    assert outcome.code == 3
    assert str(path) in outcome.stderr


def test_missing_models_are_named(trained: Trained, tmp_path: Path) -> None:
    outcome = run_cli("evaluate", "--runs", tmp_path, "--data", trained.data)
    assert outcome.code == 4
    assert "run train first" in outcome.stderr
    outcome = run_cli(
        "evaluate", "--runs", trained.runs, "--data", trained.data, "--category", "cable"
    )
    assert outcome.code == 2
    assert "no model of cable" in outcome.stderr
    assert "found: disc" in outcome.stderr


def test_without_anomalous_images_metrics_are_undefined(
    trained: Trained, data: Path, tmp_path: Path
) -> None:
    """NaN inside, null in JSON, n/a in the table."""
    shutil.rmtree(data / "disc/test/hole")
    outcome = run_cli(
        "evaluate", "--runs", trained.runs, "--data", data, "--output", tmp_path / "out"
    )
    assert outcome.code == 0
    assert "n/a" in outcome.stdout
    (row,) = json.loads((tmp_path / "out/report.json").read_text())["categories"]
    assert row["pixel_auroc"] is None
    assert row["best_iou"] is None


def test_original_size_is_what_localize_writes_and_evaluate_maps_reads(
    trained: Trained, data: Path, tmp_path: Path
) -> None:
    """Three ways to one number; images are 96 x 80, the network sees 64 x 64."""
    for path in [
        *(data / "disc/test").rglob("*.png"),
        *(data / "disc/ground_truth").rglob("*.png"),
    ]:
        with Image.open(path) as image:
            image.resize((80, 96), Image.Resampling.NEAREST).save(path)
    options = ("--data", data, "--replicates", 0)
    outcome = run_cli(
        "evaluate", "--runs", trained.runs, *options, "--resolution", "original",
        "--output", tmp_path / "a",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert "at original size" in outcome.stdout
    run_cli("localize", trained.model, data / "disc/test", "--output", tmp_path / "out")
    outcome = run_cli(
        "evaluate", "--maps", tmp_path / "out/maps", *options, "--output", tmp_path / "b",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    (one,), (other,) = (
        json.loads((tmp_path / name / "report.json").read_text())["categories"] for name in "ab"
    )
    assert one["resolution"] is other["resolution"] is None
    for name in ("pixel_auroc", "aupro", "best_iou", "best_f1", "average_precision"):
        assert one[name] == other[name], name


def test_intervals_tables_and_bars_of_a_model(trained: Trained, tmp_path: Path) -> None:
    """The hole is found by the residual in every image, so nothing is uncertain about it."""
    outcome = run_cli(
        "evaluate", "--runs", trained.runs, "--data", trained.data, "--map", "reconstruction",
        "--no-good", "--fail-under", "disc:image_recall=0.5", "--fail-under", "image_auroc=0.5",
        "--output", tmp_path,
    )  # fmt: skip
    assert outcome.code == 10, "image AUROC is undefined without normal images"
    assert "1 of 2 bars are not met: disc: image_auroc n/a" in outcome.stderr
    (row,) = json.loads((tmp_path / "report.json").read_text())["categories"]
    assert row["images"] == row["anomalous_images"] == 3
    assert row["regions"] == 3
    low, high = row["intervals"]["pixel_auroc"]
    assert 0.9 < low <= row["pixel_auroc"] <= high
    assert [item["defect_type"] for item in row["defect_types"]] == ["hole"]
    assert row["table_threshold"] == row["threshold"]
    page = (tmp_path / "report.html").read_text()
    assert row["model_sha256"] in page
    assert row["data_sha256"] in page
