"""The MVTec AD layout: which images are normal, which are held out, which mask belongs where."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_cli.data.mvtec import find_categories, select_categories, test_samples, training_images
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import write_png
from anomaly_cli.files.read import read_mask
from anomaly_cli.training.split import split_normal

BLACK = np.zeros((4, 4, 3), np.uint8)


def write_images(root: Path, *names: str) -> None:
    for name in names:
        write_png(root / name, BLACK)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two categories with three normal images each, and folders that are no category."""
    for category in ("screw", "bottle"):
        write_images(tmp_path / category / "train/good", "2.png", "0.png", "1.png")
    write_images(tmp_path / "notes/train/bad", "0.png")
    (tmp_path / "license.txt").write_text("")
    return tmp_path


# Categories


def test_categories_are_the_folders_with_normal_training_images_sorted(root: Path) -> None:
    assert find_categories(root) == ["bottle", "screw"]
    assert select_categories(root, "all") == ["bottle", "screw"]
    assert select_categories(root, "screw") == ["screw"]


def test_missing_root_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist; --data must name the folder"):
        find_categories(tmp_path / "nowhere")


def test_unknown_category_is_refused_with_the_list_and_a_suggestion(root: Path) -> None:
    with pytest.raises(DataError, match=r"botle .*; did you mean bottle\? found: bottle, screw$"):
        select_categories(root, "botle")


def test_category_like_no_other_gets_no_suggestion(root: Path) -> None:
    with pytest.raises(DataError, match=r"no category xyz under .*; found: bottle, screw$"):
        select_categories(root, "xyz")


@pytest.mark.parametrize("category", ["all", "bottle"])
def test_root_without_categories_is_refused_with_what_is_expected(
    tmp_path: Path, category: str
) -> None:
    with pytest.raises(DataError, match=r"no categories under .*: expected <category>/train/good$"):
        select_categories(tmp_path, category)


def test_category_given_as_the_root_is_recognised(root: Path) -> None:
    """The commonest slip: --data bottle instead of --data . --category bottle."""
    message = rf"did you mean --data {root} --category bottle\?$"
    with pytest.raises(DataError, match=message):
        select_categories(root / "bottle", "all")


# Training images


def test_training_images_are_sorted_and_need_no_test_folder(root: Path) -> None:
    paths = training_images(root, "bottle")
    assert [path.name for path in paths] == ["0.png", "1.png", "2.png"]
    assert {path.parent for path in paths} == {root / "bottle/train/good"}


def test_training_images_leave_out_other_and_hidden_files_and_folders(root: Path) -> None:
    folder = root / "bottle/train/good"
    (folder / "thumbs.db").write_text("")
    (folder / "._0.png").write_text("")
    (folder / "folder.png").mkdir()
    assert len(training_images(root, "bottle")) == 3


@pytest.mark.parametrize("count", [0, 2])
def test_fewer_than_three_training_images_are_refused(tmp_path: Path, count: int) -> None:
    write_images(tmp_path / "disc/train/good", *[f"{i}.png" for i in range(count)])
    with pytest.raises(DataError, match=rf"good holds {count} images; training needs at least 3"):
        training_images(tmp_path, "disc")


# The split


@given(
    count=st.integers(3, 300),
    held_out=st.floats(0, 1, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_shares_all_images_out_in_their_order(count: int, held_out: float, seed: int) -> None:
    paths = [Path(f"{i:03}") for i in range(count)]
    split = split_normal(paths, held_out=held_out, seed=seed)
    assert sorted(split.fit + split.held_out) == paths
    assert split.fit == sorted(split.fit)
    assert split.held_out == sorted(split.held_out)
    assert len(split.held_out) >= 1
    assert len(split.fit) >= 2


@pytest.mark.parametrize(
    ("count", "held_out", "expected"),
    [(209, 0.1, 21), (60, 0.1, 6), (10, 0.25, 2), (3, 0.1, 1), (3, 0.9, 1), (10, 0.99, 8)],
)
def test_share_held_out_is_rounded_and_leaves_two_to_fit(
    count: int, held_out: float, expected: int
) -> None:
    paths = [Path(str(i)) for i in range(count)]
    assert len(split_normal(paths, held_out=held_out, seed=0).held_out) == expected


def test_split_is_fixed_by_its_seed() -> None:
    paths = [Path(f"{i:03}") for i in range(50)]
    first = split_normal(paths, held_out=0.2, seed=1)
    assert split_normal(paths, held_out=0.2, seed=1) == first
    assert split_normal(paths, held_out=0.2, seed=2) != first


def test_every_image_may_be_held_out_and_none_is_preferred() -> None:
    """2 of 10 images are held out, so each is in 1000 of 5000 splits, give or take 5 sigma."""
    paths = [Path(str(i)) for i in range(10)]
    counts = dict.fromkeys(paths, 0)
    for seed in range(5000):
        for path in split_normal(paths, held_out=0.2, seed=seed).held_out:
            counts[path] += 1
    assert all(abs(count - 1000) < 5 * (5000 * 0.2 * 0.8) ** 0.5 for count in counts.values())


# Test samples


def test_samples_are_sorted_by_defect_type_and_name_with_their_masks(mvtec: Path) -> None:
    folder = mvtec / "disc"
    samples = test_samples(mvtec, "disc")
    assert [(s.defect_type, s.path.name) for s in samples] == [
        (kind, f"00{i}.png") for kind in ("good", "hole") for i in range(3)
    ]
    assert [s.mask_path for s in samples[:3]] == [None] * 3
    assert [s.mask_path for s in samples[3:]] == [
        folder / "ground_truth/hole" / f"00{i}_mask.png" for i in range(3)
    ]
    assert [s.is_anomalous for s in samples] == [False] * 3 + [True] * 3
    assert read_mask(samples[3].mask_path).sum() == 100  # type: ignore[arg-type]


@pytest.mark.parametrize("mask", ["7_mask.png", "7.png", "7_mask.bmp", "7_mask.PNG"])
def test_mask_may_have_the_name_of_its_image_and_another_format(tmp_path: Path, mask: str) -> None:
    write_images(tmp_path / "disc", "test/hole/7.jpg", f"ground_truth/hole/{mask}")
    write_images(tmp_path / "disc", "ground_truth/hole/70_mask.png", "ground_truth/hole/70.png")
    (sample,) = test_samples(tmp_path, "disc")
    assert sample.mask_path == tmp_path / "disc/ground_truth/hole" / mask


def test_mask_is_that_of_its_own_image_and_defect_type(tmp_path: Path) -> None:
    """Numbers occur again in every defect type, and `1` is the start of `10`."""
    names = [f"{kind}/{n}" for kind in ("cut", "hole") for n in ("1", "10", "1.5")]
    write_images(tmp_path / "disc/test", *(f"{name}.png" for name in names))
    write_images(tmp_path / "disc/ground_truth", *(f"{name}_mask.png" for name in names))
    for sample in test_samples(tmp_path, "disc"):
        expected = f"ground_truth/{sample.defect_type}/{sample.path.stem}_mask.png"
        assert sample.mask_path == tmp_path / "disc" / expected


def test_mask_of_an_image_with_brackets_in_its_name_is_found(tmp_path: Path) -> None:
    write_images(tmp_path / "disc", "test/hole/a[1].png", "ground_truth/hole/a[1]_mask.png")
    (sample,) = test_samples(tmp_path, "disc")
    assert sample.mask_path == tmp_path / "disc/ground_truth/hole/a[1]_mask.png"


def test_defect_without_mask_is_refused_with_the_name_it_should_have(mvtec: Path) -> None:
    (mvtec / "disc/ground_truth/hole/001_mask.png").unlink()
    message = r"test.hole.001\.png has no mask; expected .*ground_truth.hole.001_mask\.png"
    with pytest.raises(DataError, match=message):
        test_samples(mvtec, "disc")


def test_mask_of_an_image_with_a_longer_name_is_no_mask(tmp_path: Path) -> None:
    write_images(tmp_path / "disc/test/hole", "1.png", "10.png")
    write_images(tmp_path / "disc/ground_truth/hole", "10_mask.png", "10.png")
    with pytest.raises(DataError, match=r"1\.png has no mask"):
        test_samples(tmp_path, "disc")


def test_other_files_are_no_samples(mvtec: Path) -> None:
    (mvtec / "disc/test/readme.txt").write_text("")
    (mvtec / "disc/test/hole/notes.txt").write_text("")
    (mvtec / "disc/test/hole/._000.png").write_text("")
    write_images(mvtec / "disc/test", "loose.png")
    assert len(test_samples(mvtec, "disc")) == 6


def test_missing_test_split_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"no test images under .*bottle.test; expected <defect t"):
        test_samples(root, "bottle")
