"""`preview-defects`: one sheet of all kinds, from the normal training images alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SIZE, run_cli

from anomaly_cli.commands.preview_defects import TILE
from anomaly_cli.data.defects import DefectKind
from anomaly_cli.files.read import read_image


def preview(mvtec: Path, output: Path, *options: object) -> object:
    return run_cli(
        "preview-defects", "--data", mvtec, "--category", "disc", "--output", output,
        "--image-size", SIZE, *options,
    )  # fmt: skip


def test_sheet_has_a_row_for_each_kind_and_a_column_for_each_example(
    mvtec: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "sheet.png"
    outcome = preview(mvtec, output, "--examples", 3)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout == ""
    assert outcome.stderr == f"written to {output}; position of the defects: mostly on the object\n"
    height, width = read_image(output).shape[:2]
    assert height // TILE == len(DefectKind) + 1  # and the mixture that training sees
    assert width // TILE == 4


def test_json_lists_the_areas_of_all_defects(mvtec: Path, tmp_path: Path) -> None:
    outcome = preview(mvtec, tmp_path / "sheet.png", "--examples", 2, "--json")
    report = json.loads(outcome.stdout)
    assert report["has_foreground"] is True
    assert list(report["areas"]) == [*DefectKind, "training"]
    del report["areas"]["training"]  # coarse ones may cover more
    for areas in report["areas"].values():
        assert len(areas) == 2
        assert all(0.001 < area < 0.3 for area in areas)


def test_same_seed_draws_the_same_bytes_and_another_seed_others(
    mvtec: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        preview(mvtec, path, "--examples", 1, "--seed", seed)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again
    assert first != other


def test_only_normal_training_images_are_opened(
    mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With broken files under test/ and ground_truth/, and every read image written down."""
    from anomaly_cli.commands import preview_defects

    opened = []

    def watch(path: Path) -> np.ndarray:
        opened.append(path)
        return read_image(path)

    for path in [*mvtec.glob("disc/test/*/*"), *mvtec.glob("disc/ground_truth/*/*")]:
        path.write_text("broken")
    monkeypatch.setattr(preview_defects, "read_image", watch)
    assert preview(mvtec, tmp_path / "sheet.png", "--examples", 1).code == 0
    assert {path.parent for path in opened} == {mvtec / "disc" / "train" / "good"}


def test_a_file_that_is_there_is_kept_unless_overwrite(mvtec: Path, tmp_path: Path) -> None:
    output = tmp_path / "sheet.png"
    output.write_text("mine")
    outcome = preview(mvtec, output)
    assert outcome.code == 5
    assert "sheet.png exists; choose another file or add --overwrite" in outcome.stderr
    assert output.read_text() == "mine"
    assert preview(mvtec, output, "--examples", 1, "--overwrite").code == 0
    assert read_image(output).shape[1] > 2 * TILE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--image-size", 16), "--image-size must be at least 32, got 16"),
        (("--examples", 0), "--examples must be at least 1, got 0"),
        (("--output", "sheet.jpg"), "--output must end in .png"),
        (("--category", "all"), "--category must be one category"),
    ],
)
def test_nonsense_is_refused(
    mvtec: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    outcome = preview(mvtec, tmp_path / "sheet.png", *options)
    assert outcome.code == 2
    assert message in outcome.stderr


def test_unknown_category_is_a_data_error(mvtec: Path, tmp_path: Path) -> None:
    outcome = run_cli("preview-defects", "--data", mvtec, "--category", "dics")
    assert outcome.code == 3
    assert "did you mean disc?" in outcome.stderr
    assert list(tmp_path.glob("*.png")) == []


def test_own_images_need_no_category(mvtec: Path, tmp_path: Path) -> None:
    parts = mvtec / "disc/train/good"
    output = tmp_path / "sheet.png"
    options = ["--output", output, "--image-size", SIZE, "--examples", 1]
    outcome = run_cli("preview-defects", "--dataset", "folder", "--data", parts, *options, "--json")
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["category"] == "good"
    assert output.is_file()
    outcome = run_cli("preview-defects", "--data", mvtec, "--output", tmp_path / "other.png")
    assert outcome.code == 2
    assert outcome.stderr == "error: --category must be one category, not all\n"
