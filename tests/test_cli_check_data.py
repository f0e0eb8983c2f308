"""`check-data` end to end: what is printed, where, and the exit code."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SIZE, Outcome, draw_part, run_cli, write_category

from anomaly_cli.data.checks.findings import RULES
from anomaly_cli.files.images import write_png


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write a clean data set of one category, `disc`."""
    write_category(tmp_path / "mvtec", "disc", train=20)
    return tmp_path / "mvtec"


def check(data: Path, *options: object) -> Outcome:
    return run_cli("check-data", "--data", data, "--image-size", SIZE, *options)


def row_of(outcome: Outcome, *cells: str) -> list[str]:
    """Return the only row of the table that begins with these cells."""
    rows = [line.strip("│").split("│") for line in outcome.stdout.splitlines() if "│" in line]
    rows = [[cell.strip() for cell in row] for row in rows]
    (row,) = [row for row in rows if row[: len(cells)] == list(cells)]
    return row


def test_clean_data_pass_and_are_counted(data: Path) -> None:
    outcome = check(data, "--strict")
    assert outcome.code == 0
    assert outcome.stderr == ""
    assert row_of(outcome, "disc", "train", "good")[3:] == ["20", "-", "64 x 64", "colour"]
    assert row_of(outcome, "disc", "test", "good")[3:] == ["3", "-", "64 x 64", "colour"]
    assert row_of(outcome, "disc", "test", "hole")[3:] == ["3", "3", "64 x 64", "colour"]
    assert outcome.stdout.endswith("No problem was found.\n")


def test_error_says_what_where_and_what_would_be_right_and_exits_with_3(data: Path) -> None:
    (data / "disc/ground_truth/hole/001_mask.png").unlink()
    outcome = check(data)
    assert outcome.code == 3
    assert outcome.stdout.splitlines()[-4:] == [
        "error: 1 x image with a defect has no mask",
        "    disc/test/hole/001.png (expected ground_truth/hole/001_mask.png)",
        f"    right: {RULES['mask-missing'].right}",
        "1 error, 0 warnings, 0 notes.",
    ]
    assert row_of(outcome, "disc", "test", "hole")[3:5] == ["3", "2"]


def test_warning_fails_with_strict_alone(data: Path) -> None:
    (data / "disc/test/hole/001.png").unlink()
    outcome = check(data)
    assert outcome.code == 0
    assert "warning: 1 x mask belongs to no image\n" in outcome.stdout
    assert check(data, "--strict").code == 3


def test_note_does_not_fail_even_with_strict(data: Path) -> None:
    (data / "disc/train/good/notes.txt").write_text("")
    outcome = check(data, "--strict")
    assert outcome.code == 0
    assert "note: 1 x file among the images that is not read\n" in outcome.stdout
    assert outcome.stdout.endswith("0 errors, 0 warnings, 1 note.\n")


def test_many_of_one_kind_are_folded_and_json_names_them_all(data: Path) -> None:
    options = ["--image-size", 65]
    outcome = run_cli("check-data", "--data", data, *options)
    lines = outcome.stdout.splitlines()
    place = lines.index("warning: 26 x image is smaller than the network's input and is blown up")
    assert lines[place + 1 : place + 5] == [
        "    disc/test/good/000.png (64 x 64, network 65)",
        "    disc/test/good/001.png (64 x 64, network 65)",
        "    disc/test/good/002.png (64 x 64, network 65)",
        "    and 23 more",
    ]
    assert lines[-1] == "0 errors, 1 warning, 0 notes. --json lists every file."
    printed = json.loads(run_cli("check-data", "--data", data, *options, "--json").stdout)
    (finding,) = printed["findings"]
    assert finding["count"] == len(finding["places"]) == 26


def test_worst_findings_come_first(data: Path) -> None:
    (data / "disc/train/good/notes.txt").write_text("")
    (data / "disc/test/hole/001.png").unlink()
    write_category(data, "again", train=20)
    (data / "again/ground_truth/hole/001_mask.png").unlink()
    (data / "again/train/good/Thumbs.db").write_text("")
    lines = check(data).stdout.splitlines()
    starts = [line.split(":")[0] for line in lines if line.startswith(("error", "warning", "note"))]
    assert starts == ["error", "warning", "note", "note"]


def test_json_holds_counts_findings_and_the_version(data: Path) -> None:
    shutil.copy(data / "disc/train/good/004.png", data / "disc/test/good/001.png")
    outcome = check(data, "--json")
    assert outcome.code == 3
    report = json.loads(outcome.stdout)
    assert report["schema_version"] == 1
    assert (report["errors"], report["warnings"], report["notes"]) == (1, 0, 0)
    assert report["image_size"] == SIZE
    assert report["counts"][2] == {
        "category": "disc",
        "split": "test",
        "defect_type": "hole",
        "images": 3,
        "masks": 3,
        "smallest": [64, 64],
        "largest": [64, 64],
        "grey": 0,
        "colour": 3,
    }
    (finding,) = report["findings"]
    assert (finding["severity"], finding["kind"], finding["category"]) == ("error", "leak", "disc")
    assert finding["places"] == [
        {"paths": ["disc/train/good/004.png", "disc/test/good/001.png"], "detail": ""}
    ]


def test_json_of_clean_data_has_no_findings(data: Path) -> None:
    outcome = check(data, "--json")
    assert outcome.code == 0
    assert json.loads(outcome.stdout)["findings"] == []


def test_sizes_and_colours_of_a_mixed_split_are_listed(data: Path) -> None:
    folder = data / "disc/test/good"
    write_png(folder / "001.png", draw_part(77)[:, :32])
    write_png(folder / "002.png", draw_part(78)[..., 0])
    (folder / "003.png").write_text("text")
    row = row_of(check(data), "disc", "test", "good")
    assert row[3:] == ["4", "-", "32 x 64 to 64 x 64", "mixed"]


def test_split_without_a_readable_image_has_no_size(data: Path) -> None:
    for path in (data / "disc/test/good").glob("*.png"):
        path.write_text("text")
    assert row_of(check(data), "disc", "test", "good")[3:] == ["3", "-", "-", "-"]


def test_category_without_any_image_is_listed_with_its_findings(tmp_path: Path) -> None:
    (tmp_path / "disc/train/good").mkdir(parents=True)
    outcome = check(tmp_path)
    assert outcome.code == 3
    assert "error: 1 x too few normal images to train at all\n" in outcome.stdout
    assert "    disc/train/good (0 readable)\n" in outcome.stdout


def test_hostile_names_are_printed_as_they_are_and_on_one_line(data: Path) -> None:
    """Markup is no markup, a newline is escaped, and letters beyond ASCII stay."""
    name = "[good]\n[red] é.png"
    write_png(data / "disc/test/hole" / name, draw_part(77))
    outcome = check(data)
    assert outcome.code == 3
    assert "    disc/test/hole/[good]\\n[red] é.png (expected " in outcome.stdout
    assert "ground_truth/hole/[good]\\n[red] é_mask.png)\n" in outcome.stdout
    (finding,) = json.loads(check(data, "--json").stdout)["findings"]
    assert finding["places"][0]["paths"] == [f"disc/test/hole/{name}"]


def test_hostile_category_and_defect_type_keep_the_table_whole(data: Path) -> None:
    shutil.move(data / "disc/test/hole", data / "disc/test/[b]\nhole")
    shutil.move(data / "disc/ground_truth/hole", data / "disc/ground_truth/[b]\nhole")
    shutil.move(data / "disc", data / "[red]disc")
    outcome = check(data)
    assert outcome.code == 0, outcome.stdout
    assert row_of(outcome, "[red]disc", "test", "[b]\\nhole")[3:5] == ["3", "3"]


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_name_that_is_no_unicode_is_escaped_in_text_and_json(data: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(data / "disc/test/hole") + b"/\xff.png"))
    try:
        path.write_text("text")
    except OSError:
        pytest.skip("the file system refuses names that are no Unicode")
    assert "disc/test/hole/\\udcff.png (not an image" in check(data).stdout
    findings = json.loads(check(data, "--json").stdout)["findings"]
    paths = {tuple(finding["places"][0]["paths"]) for finding in findings}
    assert paths == {("disc/test/hole/\\udcff.png",)}


def test_one_category_is_checked_alone(data: Path) -> None:
    write_category(data, "again", train=5)
    write_png(data / "nut/train/Good/0.png", draw_part(1))
    assert check(data, "--category", "disc", "--strict").code == 0
    outcome = check(data)
    assert "again/train/good (5 readable)" in outcome.stdout
    assert "folder is skipped: it looks like a category, but has no train/good" in outcome.stdout


def test_missing_data_are_a_data_error(tmp_path: Path) -> None:
    outcome = check(tmp_path / "nowhere")
    assert outcome.code == 3
    assert outcome.stdout == ""
    assert "nowhere does not exist; --data must name the folder" in outcome.stderr


@pytest.mark.parametrize("option", ["--image-size", "--workers"])
def test_zero_is_refused(data: Path, option: str) -> None:
    outcome = check(data, option, 0)
    assert outcome.code == 2
    assert f"{option} must be at least 1, got 0" in outcome.stderr


def test_result_does_not_depend_on_the_number_of_threads(data: Path) -> None:
    write_png(data / "disc/ground_truth/hole/001_mask.png", np.zeros((8, 8), bool))
    write_png(data / "disc/train/good/003.png", draw_part(4) + np.uint8(2))
    outcomes = [check(data, "--workers", workers) for workers in (1, 3, 8)]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0].code == 3


def test_relative_data_folder_gives_the_same_findings(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "disc/test/hole/001.png").unlink()
    _title, expected = check(data).stdout.split("┏", 1)  # the folder may take two lines
    monkeypatch.chdir(data)
    assert check(Path()).stdout.split("┏", 1)[1] == expected


@pytest.mark.data
def test_real_bottles_pass_strictly(real_data: Path) -> None:
    options = ["--data", real_data / "mvtec", "--category", "bottle"]
    outcome = run_cli("check-data", *options, "--strict")
    assert outcome.code == 0, outcome.stdout
    assert row_of(outcome, "bottle", "train", "good")[3:] == ["209", "-", "512 x 512", "colour"]
    assert row_of(outcome, "bottle", "test", "contamination")[3:5] == ["21", "21"]


@pytest.mark.data
def test_real_tiles_have_no_errors_but_differ_in_size(real_data: Path) -> None:
    """Tiles that were photographed twice are reported, and lie within one split."""
    options = ["--data", real_data / "magnetic_tile", "--category", "tile"]
    outcome = run_cli("check-data", *options, "--json")
    assert outcome.code == 0, outcome.stdout
    kinds = {
        finding["kind"]: finding["count"] for finding in json.loads(outcome.stdout)["findings"]
    }
    assert set(kinds) == {"mixed-size", "small", "near-duplicate"}
    assert kinds["near-duplicate"] == 9


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Someone's images: normal ones in `good`, others in `bad`, no masks, a stray one above."""
    root = tmp_path / "parts"
    images = [draw_part(seed) for seed in range(24)]
    for number, image in enumerate(images[:20]):
        write_png(root / "good" / f"{number}.png", image)
    for number, image in enumerate(images[20:23]):
        write_png(root / "bad" / f"{number}.png", image)
    write_png(root / "stray.png", images[23])
    return root


def kinds(outcome: Outcome) -> dict[str, list[list[str]]]:
    found = json.loads(outcome.stdout)["findings"]
    return {row["kind"]: [place["paths"] for place in row["places"]] for row in found}


def test_own_images_are_counted_and_what_they_lack_is_listed(own: Path) -> None:
    outcome = check(own, "--dataset", "folder", "--json")
    assert outcome.code == 0, outcome.stderr
    counts = {(c["split"], c["defect_type"]): c for c in json.loads(outcome.stdout)["counts"]}
    assert {name: row["images"] for name, row in counts.items()} == {
        ("train", "good"): 20,
        ("test", "good"): 0,
        ("test", "bad"): 3,
    }
    assert {row["category"] for row in counts.values()} == {"parts"}
    found = kinds(outcome)
    assert found == {
        "no-normal-test": [["test/good"]],  # those of `good` are trained on
        "stray": [["stray.png"]],
        "no-masks": [["."]],
    }
    assert check(own, "--dataset", "folder", "--strict").code == 3


def test_own_masks_are_checked_once_there_are_some(own: Path) -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[5:9, 5:9] = 255
    write_png(own / "ground_truth/bad/0.png", mask)
    write_png(own / "ground_truth/bad/9.png", mask)
    write_png(own / "test/good/0.png", draw_part(90))
    shutil.move(own / "bad", own / "test/bad")
    outcome = check(own, "--dataset", "folder", "--json")
    assert outcome.code == 3
    found = kinds(outcome)
    assert found["mask-missing"] == [["test/bad/1.png"], ["test/bad/2.png"]]
    assert found["mask-orphan"] == [["ground_truth/bad/9.png"]]
    assert "no-normal-test" not in found


def test_a_list_of_own_images_is_checked_as_it_is(own: Path, tmp_path: Path) -> None:
    names = [f"parts/good/{number}.png" for number in range(20)]
    (tmp_path / "some.txt").write_text("\n".join(names))
    (own / "good/0.png").write_bytes(b"no image")
    outcome = check(tmp_path / "some.txt", "--dataset", "folder", "--json")
    found = kinds(outcome)
    assert set(found) == {"unreadable", "few-normal", "no-test"}  # the others are not named by it
    assert found["unreadable"] == [["parts/good/0.png"]]
    (tmp_path / "some.txt").write_text("some.txt")
    outcome = check(tmp_path / "some.txt", "--dataset", "folder")
    assert outcome.code == 3
    assert "is not an image by its name" in outcome.stderr
