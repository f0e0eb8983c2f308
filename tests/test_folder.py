"""The user's own images: mixed formats, labels by folder, lists, and what is missing."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_hole, draw_part, run_cli
from PIL import Image

from anomaly_cli.data import folder
from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.files.lists import expand_file_lists, read_file_list

TINY = ("--dataset", "folder", "--image-size", 64, "--latent-dim", 4, "--epochs", 1)


def write_mixed(place: Path) -> Path:
    """Three normal images: colour JPEG, 8-bit grey PNG, 16-bit grey TIFF of another size."""
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_part(0)).save(place / "a.jpg")
    Image.fromarray(draw_part(1)[..., 0]).save(place / "b.png")
    deep = draw_part(2)[..., 0].astype(np.uint16) * 257
    Image.fromarray(np.pad(deep, ((0, 16), (0, 0)))).save(place / "c.tif")
    return place


def write_test_split(root: Path, *, masks: bool) -> None:
    """Two good images and two with a hole."""
    for kind, draw in (("good", lambda seed: (draw_part(seed), None)), ("hole", draw_hole)):
        for number in (1, 2):
            image, mask = draw(100 + number)
            path = root / "test" / kind / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            if masks and mask is not None:
                truth = root / "ground_truth" / kind
                truth.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(truth / f"{number}.png")


def evaluate(model: Path, data: Path, output: Path) -> dict[str, object]:
    """Evaluate one model; return its row of the report, and stderr."""
    outcome = run_cli(
        "evaluate", "--dataset", "folder", "--model", model, "--data", data, "--output", output,
        "--replicates", 10,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    (row,) = json.loads((output / "report.json").read_text())["categories"]
    return row | {"stderr": outcome.stderr, "html": (output / "report.html").read_text()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixed(tmp_path_factory.mktemp("own") / "parts")


@pytest.fixture(scope="module")
def model(data: Path) -> Path:
    """Trained on three images of mixed formats."""
    outcome = run_cli("train", *TINY, "--data", data, "--output", data.parent / "runs")
    assert outcome.code == 0, outcome.stderr
    return data.parent / "runs" / "parts"


def test_three_mixed_images_train_and_localize(data: Path, model: Path, tmp_path: Path) -> None:
    outcome = run_cli("localize", model, data, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    assert len((tmp_path / "out/manifest.jsonl").read_text().splitlines()) == 3
    assert Image.open(tmp_path / "out/maps/c.tiff").size == (64, 80)


def test_without_test_images_the_report_says_what_is_missing(
    data: Path, model: Path, tmp_path: Path
) -> None:
    row = evaluate(model, data, tmp_path)
    assert "has no test images" in str(row["stderr"])
    assert "image AUROC are not available: they need anomalous images" in str(row["stderr"])
    assert "pixel metrics are not available" in str(row["html"])
    assert row["images"] == 3
    assert row["image_auroc"] is None
    assert row["image_false_positive_rate"] is not None
    assert row["pixel_auroc"] is None
    assert row["iou"] is None


def test_labels_without_masks_give_image_metrics_alone(model: Path, tmp_path: Path) -> None:
    write_test_split(tmp_path / "parts", masks=False)
    row = evaluate(model, tmp_path / "parts", tmp_path / "report")
    assert "2 of 2 anomalous images have no mask" in str(row["stderr"])
    assert row["image_auroc"] is not None
    assert row["pixel_auroc"] is None
    assert "no ground truth" in str(row["html"])


def test_masks_give_pixel_metrics_too(model: Path, tmp_path: Path) -> None:
    """By the stem of the image alone, without `_mask`."""
    write_test_split(tmp_path / "parts", masks=True)
    row = evaluate(model, tmp_path / "parts", tmp_path / "report")
    assert "not available" not in str(row["stderr"])
    assert row["pixel_auroc"] is not None
    assert row["regions"] == 2


def test_one_missing_mask_takes_the_pixel_metrics(tmp_path: Path) -> None:
    """A metric over some of the images would be another metric."""
    from anomaly_cli.data.datasets import mask_gap

    write_test_split(tmp_path, masks=True)
    assert mask_gap(folder.test_samples(tmp_path, "parts")) == ""
    (tmp_path / "ground_truth/hole/2.png").unlink()
    assert "1 of 2 anomalous" in mask_gap(folder.test_samples(tmp_path, "parts"))


@pytest.mark.parametrize("layout", ["train/good", "train", "good", ""])
def test_normal_images_are_found_in_each_layout(tmp_path: Path, layout: str) -> None:
    write_mixed(tmp_path / layout)
    write_test_split(tmp_path, masks=True)
    names = [path.name for path in folder.training_images(tmp_path, "any")]
    assert names == ["a.jpg", "b.png", "c.tif"]


def test_labels_beside_good_are_a_test_split(tmp_path: Path) -> None:
    write_mixed(tmp_path / "good")
    write_mixed(tmp_path / "bad")
    kinds = [sample.defect_type for sample in folder.test_samples(tmp_path, "any")]
    assert kinds == ["bad"] * 3 + ["good"] * 3


def test_normal_images_that_are_trained_on_and_scored_are_reported(tmp_path: Path) -> None:
    write_mixed(tmp_path / "good")
    write_mixed(tmp_path / "bad")
    (gap,) = folder.explain_gaps(tmp_path, "any", folder.test_samples(tmp_path, "any"))
    assert "the 3 normal images" in gap
    assert "too good" in gap
    write_mixed(tmp_path / "train/good")  # then those of `good` are for the test alone
    assert folder.explain_gaps(tmp_path, "any", folder.test_samples(tmp_path, "any")) == []


def test_a_list_is_taken_where_a_folder_is(tmp_path: Path) -> None:
    write_mixed(tmp_path / "images")
    listed = tmp_path / "train.txt"
    listed.write_text("# normal parts\nimages/c.tif\n\nimages/a.jpg\nimages/b.png\n")
    assert [p.name for p in folder.training_images(listed, "any")] == ["c.tif", "a.jpg", "b.png"]
    assert folder.select_categories(listed, "all") == ["train"]
    assert expand_file_lists([str(listed), "other"])[0].endswith("c.tif")
    listed.write_text("images/d.png\n")
    with pytest.raises(DataError, match=r"d\.png does not exist"):
        read_file_list(listed)
    listed.write_text("\n")
    with pytest.raises(DataError, match="names no file"):
        read_file_list(listed)


def test_a_list_with_a_name_that_no_disk_takes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("../" * 2000 + "a.png\n")
    with pytest.raises(DataError, match=r"a\.png does not exist, but .*x\.txt names it"):
        read_file_list(tmp_path / "x.txt")


def test_a_list_of_test_images_has_their_folders_as_labels(tmp_path: Path) -> None:
    write_test_split(tmp_path, masks=True)
    listed = tmp_path / "test.txt"
    listed.write_text("test/hole/1.bmp\ntest/good/2.bmp\n")
    good, hole = folder.test_samples(listed, "any")
    assert (good.defect_type, hole.defect_type) == ("good", "hole")
    assert hole.mask_path == tmp_path / "ground_truth/hole/1.png"


def test_a_list_of_labels_without_test_never_takes_bad_for_normal(tmp_path: Path) -> None:
    write_mixed(tmp_path / "good")
    write_mixed(tmp_path / "bad")
    listed = tmp_path / "all.txt"
    listed.write_text("good/a.jpg\nbad/a.jpg\n")
    assert [sample.is_anomalous for sample in folder.test_samples(listed, "any")] == [True, False]
    listed.write_text("good/a.jpg\ngood/b.png\n")
    gaps = folder.explain_gaps(listed, "any", folder.test_samples(listed, "any"))
    assert "has no test images" in gaps[0]


def test_saved_maps_have_the_layout_of_mvtec_alone(tmp_path: Path) -> None:
    outcome = run_cli("evaluate", "--maps", tmp_path, "--dataset", "folder", "--data", tmp_path)
    assert outcome.code == 2
    assert "not of --dataset folder" in outcome.stderr


def test_a_list_is_localized(model: Path, data: Path, tmp_path: Path) -> None:
    listed = tmp_path / "some.txt"
    listed.write_text(f"{data / 'a.jpg'}\n")
    outcome = run_cli("localize", model, listed, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "out/maps/a.tiff").is_file()


def test_too_few_images_are_refused_with_the_layouts(tmp_path: Path) -> None:
    Image.fromarray(draw_part(0)).save(tmp_path / "one.png")
    outcome = run_cli("train", *TINY, "--data", tmp_path, "--output", tmp_path / "runs")
    assert outcome.code == 3
    assert "at least 3 normal ones" in outcome.stderr
    outcome = run_cli("train", *TINY, "--data", tmp_path / "none")
    assert outcome.code == 3
    assert "neither a folder nor a .txt list" in outcome.stderr


def test_names_lists_and_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--category a/b must be a plain name"):
        folder.select_categories(tmp_path, "a/b")
    with pytest.raises(DataError, match=f"no images under {tmp_path}; expected test/good"):
        folder.test_samples(tmp_path, "all")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"cannot read .*list\.txt"):
        read_file_list(tmp_path / "list.txt")
