"""`evaluate --maps` end to end: numbers worked out by hand, bars, exit codes, names that harm."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from example_maps import CATEGORY, draw, evaluate, read, write_split
from PIL import Image
from skimage.filters import apply_hysteresis_threshold
from sklearn.metrics import average_precision_score, roc_auc_score

from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.errors import ConfigError
from anomaly_cli.evaluation.saved_maps import find_maps
from anomaly_cli.files.images import write_tiff


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write `data/` and `maps/` of one category."""
    return write_split(tmp_path)


def test_numbers_are_those_of_scikit_learn(root: Path) -> None:
    outcome = evaluate(root)
    assert outcome.code == 0, outcome.stderr
    (row,) = read(root)["categories"]
    maps, masks = [], []
    for path in sorted((root / "maps").rglob("*.tiff")):
        maps.append(np.asarray(Image.open(path)))
        masks.append(draw(0, gain=0)[1] & (path.parent.name != "good"))
    scores, truth = np.stack(maps), np.stack(masks)
    assert row["pixel_auroc"] == pytest.approx(roc_auc_score(truth.ravel(), scores.ravel()))
    labels, image_scores = truth.any(axis=(1, 2)), scores.max(axis=(1, 2))
    assert row["image_auroc"] == pytest.approx(roc_auc_score(labels, image_scores))
    assert row["image_average_precision"] == pytest.approx(
        average_precision_score(labels, image_scores)
    )
    low, high = row["intervals"]["pixel_auroc"]
    assert low <= row["pixel_auroc"] <= high
    assert row["resolution"] is row["threshold"] is row["iou"] is row["model_sha256"] is None
    assert row["table_threshold_rule"] == "oracle best IoU"
    cut, good, hole = row["defect_types"]
    own = [i for i, path in enumerate(sorted((root / "maps").rglob("*.tiff"))) if i < 6]
    assert [kind["defect_type"] for kind in (cut, good, hole)] == ["cut", "good", "hole"]
    assert cut["pixel_auroc"] == pytest.approx(
        roc_auc_score(truth[own].ravel(), scores[own].ravel())
    )
    assert good["pixel_auroc"] is good["iou"] is None
    assert hole["area"] == 200 / 2400
    assert hole["regions"] == 3


def test_given_threshold_gives_iou_and_verdicts(root: Path) -> None:
    assert evaluate(root, "--threshold", "1.0").code == 0
    (row,) = read(root)["categories"]
    assert row["threshold"] == row["table_threshold"] == 1.0
    assert row["image_false_positive_rate"] == 0.0
    assert row["image_recall"] == 1.0
    assert row["precision"] == 1.0  # only anomalous pixels exceed 1
    table = {item["image"]: item for item in row["image_table"]}
    scores, mask = draw(200, gain=0.8)
    hole = table["hole/000.png"]
    assert hole["iou"] == pytest.approx((scores[mask] > 1).mean())
    assert hole["is_called"] is True
    assert table["good/000.png"]["is_called"] is False
    outcome = evaluate(root, "--threshold", "max", output="other")
    assert outcome.code == 2
    assert "with --maps give a number" in outcome.stderr


def test_regions_extend_to_a_given_outline(root: Path) -> None:
    """As scikit-image has it; verdicts are those of the threshold, whatever the counting."""
    options = ("--threshold", "1.0", "--outline", "0.7")
    assert evaluate(root, *options).code == 0
    assert evaluate(root, *options, "--counting", "streaming", output="streaming").code == 0
    assert evaluate(root, "--threshold", "1.0", output="plain").code == 0
    (row,), (streamed,), (plain,) = (
        read(root, name)["categories"] for name in ("out", "streaming", "plain")
    )
    assert (row["outline"], plain["outline"]) == (0.7, None)
    assert row["image_table"] == streamed["image_table"]
    for key in ("image_recall", "image_false_positive_rate", "missed_regions"):
        assert row[key] == plain[key]
    scores, mask = draw(200, gain=0.8)
    # Corners join regions here, so what scikit-image joins by sides is the least.
    least = apply_hysteresis_threshold(scores, 0.7, 1.0)
    table = {item["image"]: item for item in row["image_table"]}
    hole = table["hole/000.png"]
    assert hole["recall"] >= (least & mask).sum() / mask.sum()
    assert hole["called_area"] >= least.mean()
    assert hole["called_area"] < (scores > 0.7).mean()
    assert table["good/000.png"]["called_area"] == 0
    white = [white_of_masks(root / name / "report.html") for name in ("out", "plain")]
    assert white[0] > white[1], "the gallery shows the masks that were counted"
    assert "regions end at the outline" in (root / "out/report.md").read_text()


def white_of_masks(page: Path) -> int:
    """White pixels of all masks of a gallery."""
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page.read_text())
    assert pictures
    return sum(
        int((np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) > 0).sum())
        for text in pictures
    )


def test_outline_without_a_threshold_is_a_usage_error(root: Path) -> None:
    outcome = evaluate(root, "--outline", "0.7")
    assert outcome.code == 2
    assert "above a --threshold; give both" in outcome.stderr


def test_good_images_can_be_left_out_and_the_report_says_so(root: Path) -> None:
    outcome = evaluate(root, "--no-good")
    assert outcome.code == 0, outcome.stderr
    (row,) = read(root)["categories"]
    assert (row["images"], row["anomalous_images"], row["good"]) == (6, 6, False)
    assert row["image_auroc"] is None
    assert "normal images left out" in outcome.stdout
    for name in ("report.md", "report.html"):
        assert "were left out" in (root / "out" / name).read_text()


def test_normal_images_alone_leave_nothing_without_them(root: Path) -> None:
    for place in ("data", "maps"):
        for folder in (root / place / CATEGORY / "test").iterdir():
            if folder.name != "good":
                shutil.rmtree(folder)
    outcome = evaluate(root, "--no-good")
    assert outcome.code == 3
    assert f"no images of {CATEGORY} are left without the normal ones" in outcome.stderr


def test_maps_without_a_folder_are_refused() -> None:
    with pytest.raises(ConfigError, match="--maps names no folder"):
        find_maps(EvaluateConfig())


def test_image_score_is_chosen_and_stated(root: Path) -> None:
    assert evaluate(root, "--image-score", "top:0.01").code == 0
    (row,) = read(root)["categories"]
    assert row["image_score"] == "top:0.01"
    scores, _mask = draw(0, gain=0.0)
    table = {item["image"]: item for item in row["image_table"]}
    expected = np.sort(scores.ravel())[-24:].mean(dtype=np.float64)
    assert table["good/000.png"]["score"] == pytest.approx(expected)
    assert "top:0.01 of the map" in (root / "out/report.md").read_text()


def test_ground_truth_without_images_gives_the_same_numbers(root: Path) -> None:
    evaluate(root)
    (root / "data" / CATEGORY / "test").rename(root / "elsewhere")
    outcome = evaluate(root, output="alone")
    assert outcome.code == 0, outcome.stderr
    (old,), (new,) = read(root)["categories"], read(root, "alone")["categories"]
    assert new["pixel_auroc"] == old["pixel_auroc"]
    assert "image not at hand" in (root / "alone/report.html").read_text()


def test_same_seed_same_report(root: Path) -> None:
    evaluate(root)
    evaluate(root, output="again")
    evaluate(root, "--seed", 1, output="other")
    for path in (root / "out").iterdir():
        is_same = path.read_bytes() == (root / "again" / path.name).read_bytes()
        assert is_same or path.name == "settings.toml"  # which names the folder
    intervals = [read(root, name)["categories"][0]["intervals"] for name in ("out", "other")]
    assert intervals[0] != intervals[1]


# Errors


def test_size_mismatch_names_both_sizes(root: Path) -> None:
    write_tiff(root / f"maps/{CATEGORY}/test/hole/001.tiff", np.zeros((20, 30), np.float32))
    outcome = evaluate(root)
    assert outcome.code == 3
    assert "hole/001.tiff has 20 x 30 pixels" in outcome.stderr
    assert "hole/001.png has 40 x 60" in outcome.stderr
    (root / "data" / CATEGORY / "test").rename(root / "elsewhere")
    outcome = evaluate(root, "--overwrite")
    assert outcome.code == 3
    assert "001_mask.png has 40 x 60" in outcome.stderr
    assert not list((root / "out").iterdir())


def test_nan_in_a_map_is_named(root: Path) -> None:
    scores, _mask = draw(0, gain=0)
    scores[3, 4] = np.nan
    write_tiff(root / f"maps/{CATEGORY}/test/good/000.tiff", scores)
    outcome = evaluate(root)
    assert outcome.code == 3
    assert "good/000.tiff has 1 NaN" in outcome.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "x"), "--maps needs no model"),
        (("--resolution", "network"), "compared at their own size"),
        (("--format", "jsn"), "did you mean json"),
        (("--image-score", "mean"), "--image-score must be max or top:SHARE"),
        (("--fail-under", "pixel_auorc=0.5"), "did you mean pixel_auroc"),
        (("--fail-under", "rnig:iou=0.5"), "did you mean ring"),
        (("--max-drop", "2"), "--max-drop must be in"),
    ],
)
def test_wrong_options_are_usage_errors(root: Path, options: tuple[str, str], message: str) -> None:
    outcome = evaluate(root, *options)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert not (root / "out").exists() or not list((root / "out").iterdir())


def test_no_torch_is_loaded(root: Path) -> None:
    code = (
        "import sys; from anomaly_cli.cli import app\n"
        f"sys.argv[1:] = ['evaluate', '--maps', {str(root / 'maps')!r}, '--data', "
        f"{str(root / 'data')!r}, '--output', {str(root / 'out')!r}]\n"
        "try: app()\n"
        "except SystemExit as end: print('CODE', end.code)\n"
        "print('LOADED', [m for m in ('torch', 'torchvision', 'skimage') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "LOADED []" in result.stdout
    assert (root / "out/report.html").exists()


# Bars


def test_bar_that_is_met_exits_with_zero(root: Path) -> None:
    outcome = evaluate(root, "--fail-under", "pixel_auroc=0.5", "--fail-under", "ring:best_iou=0.1")
    assert outcome.code == 0
    assert "2 of 2 bars are met" in outcome.stdout
    assert [gate["is_met"] for gate in read(root)["gates"]] == [True, True]


def test_bar_that_is_not_met_exits_with_ten_after_the_report(root: Path) -> None:
    outcome = evaluate(root, "--fail-under", "pixel_auroc=0.999", "--fail-under", "best_iou=0.1")
    assert outcome.code == 10
    assert "1 of 2 bars are not met: ring: pixel_auroc" in outcome.stderr
    assert "falls short of 0.999" in outcome.stderr
    assert "1 of 2 bars are met; these are not" in outcome.stdout
    assert '<failure type="bar"' in (root / "out/junit.xml").read_text()
    assert "1 of 2 bars are not met" in (root / "out/report.html").read_text()


def test_exit_zero_reports_the_bar_all_the_same(root: Path) -> None:
    outcome = evaluate(root, "--fail-under", "pixel_auroc=0.999", "--exit-zero")
    assert outcome.code == 0
    assert "warning: 1 of 1 bars are not met" in outcome.stderr


def test_undefined_metric_fails_its_bar(root: Path) -> None:
    """IoU has no threshold here, so even a bar of 0 is not met."""
    outcome = evaluate(root, "--fail-under", "iou=0", "--json")
    assert outcome.code == 10
    assert "n/a falls short of 0" in outcome.stderr
    assert json.loads(outcome.stdout)["gates"][0]["value"] is None


def test_fall_behind_a_baseline_exits_with_ten(root: Path) -> None:
    evaluate(root, output="old")
    old = root / "old/report.json"
    assert evaluate(root, "--baseline", old).code == 0
    for index in range(3):
        scores, _mask = draw(200 + index, gain=0.4)
        write_tiff(root / f"maps/{CATEGORY}/test/hole/{index:03}.tiff", scores)
    outcome = evaluate(root, "--baseline", old, "--max-drop", "0.02", output="new")
    assert outcome.code == 10
    assert "ring: pixel_auroc" in outcome.stderr
    assert "is not at most 0.02 below the baseline's" in outcome.stderr
    assert evaluate(root, "--baseline", old, "--max-drop", "1", output="lax").code == 0


def test_baseline_of_other_settings_is_warned_about(root: Path) -> None:
    evaluate(root, output="old")
    outcome = evaluate(root, "--no-good", "--baseline", root / "old/report.json", "--exit-zero")
    assert outcome.code == 0
    assert "was made in another way: ring good: True, now False" in outcome.stderr


def test_baseline_of_another_category_is_a_data_error(root: Path) -> None:
    assert evaluate(root, output="old").code == 0
    old = root / "old/report.json"
    old.write_text(old.read_text().replace(CATEGORY, "other"))
    outcome = evaluate(root, "--category", CATEGORY, "--baseline", old)
    assert outcome.code == 3
    assert "shares no metric of a category with this evaluation" in outcome.stderr


def test_unreadable_baseline_is_a_data_error(root: Path) -> None:
    outcome = evaluate(root, "--baseline", root / "nowhere.json")
    assert outcome.code == 3
    assert "cannot read the baseline" in outcome.stderr


# Names


def test_hostile_names_of_folders_and_files_are_escaped_in_reports(tmp_path: Path) -> None:
    """A name may hold every character that a file system allows."""
    category = "<img src=x onerror=alert(1)>"
    write_split(tmp_path, category, kinds=("[good]\n\"'&", "ß" * 60))
    outcome = evaluate(tmp_path)
    assert outcome.code == 0, outcome.stderr
    assert "\n\"'&" not in outcome.stdout
    for name in ("report.html", "report.md", "junit.xml"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "<img src=x" not in text, name
        assert "alert(1)" in text, name
    (row,) = read(tmp_path)["categories"]
    assert row["category"] == category


def test_file_names_that_are_not_utf8_are_written_as_escapes(root: Path) -> None:
    """As old archives bring them: a Latin-1 umlaut."""
    latin = "\udce4"
    try:
        for folder in ("maps", "data"):
            for path in (root / folder / CATEGORY / "test/good").glob("000.*"):
                path.rename(path.with_stem(latin))
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    outcome = evaluate(root, "--json")
    assert outcome.code == 0, outcome.stderr
    names = [item["image"] for item in json.loads(outcome.stdout)["categories"][0]["image_table"]]
    assert f"good/{latin}.png" in names
    assert "good/\\udce4.png" in (root / "out/report.html").read_text(encoding="utf-8")
