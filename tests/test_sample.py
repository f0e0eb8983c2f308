"""`sample` writes a small MVTec AD tree: every defect has its mask, and a seed fixes every byte."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from anomaly_cli.commands.sample import KINDS, run
from anomaly_cli.config.data import SampleConfig
from anomaly_cli.data.photographs import CATEGORIES
from anomaly_cli.errors import ConfigError, OutputError
from anomaly_cli.files.atomic import hash_file
from anomaly_cli.files.read import read_image, read_mask


def sample(destination: Path, **settings: object) -> Path:
    """Write few, small images."""
    settings = {"image_size": 48, "count": 4, "category": "brick"} | settings
    run(SampleConfig(destination=destination, **settings))
    return destination


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hash_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_layout_is_that_of_mvtec_ad(tmp_path: Path) -> None:
    """Four of each defect type at least, each with its mask; the test set has a `good` too."""
    names = set(hashes(sample(tmp_path / "data", count=5)))
    numbers = [f"{index:03d}" for index in range(4)]
    assert names == {
        *(f"brick/train/good/{index:03d}.png" for index in range(5)),
        *(f"brick/test/{kind}/{n}.png" for kind in ("good", *KINDS) for n in numbers),
        *(f"brick/ground_truth/{kind}/{n}_mask.png" for kind in KINDS for n in numbers),
    }


def test_result_counts_what_was_written(tmp_path: Path) -> None:
    """A quarter of 24 training images is six, so six normal and six of each defect type."""
    result = run(SampleConfig(destination=tmp_path, image_size=32, count=24))
    assert result.destination == tmp_path
    assert [counts.category for counts in result.categories] == list(CATEGORIES)
    for counts in result.categories:
        folder = tmp_path / counts.category
        assert counts.train == len(list(folder.glob("train/good/*.png"))) == 24
        assert counts.test_normal == len(list(folder.glob("test/good/*.png"))) == 6
        anomalous = [path for kind in KINDS for path in folder.glob(f"test/{kind}/*.png")]
        assert counts.test_anomalous == len(anomalous) == 6 * len(KINDS)


@pytest.mark.parametrize("image_size", [32, 300])
def test_images_and_masks_have_the_size_asked_for_and_masks_are_small_but_not_empty(
    tmp_path: Path, image_size: int
) -> None:
    folder = sample(tmp_path, image_size=image_size) / "brick"
    for kind in KINDS:
        image = read_image(folder / "test" / kind / "000.png")
        mask = read_mask(folder / "ground_truth" / kind / "000_mask.png")
        assert image.shape == (image_size, image_size, 3)
        assert mask.shape == (image_size, image_size)
        assert 0 < mask.mean() < 0.5


def test_mask_file_is_black_and_white(tmp_path: Path) -> None:
    from PIL import Image

    folder = sample(tmp_path) / "brick" / "ground_truth"
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            assert image.mode == "L"
            assert set(np.unique(np.asarray(image))) == {0, 255}


def test_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (
        hashes(sample(tmp_path / name, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert first.keys() == other.keys()
    assert not any(first[name] == other[name] for name in first)


def test_category_is_the_same_alone_and_among_all(tmp_path: Path) -> None:
    everything = hashes(sample(tmp_path / "all", category="all"))
    alone = hashes(sample(tmp_path / "one", category="gravel"))
    assert alone.items() <= everything.items()
    assert {name.split("/")[0] for name in everything} == set(CATEGORIES)


def test_larger_sample_begins_with_the_smaller_one(tmp_path: Path) -> None:
    """More images are added to the end, and the test set does not depend on the training set."""
    small = hashes(sample(tmp_path / "small", count=4))
    large = hashes(sample(tmp_path / "large", count=20))
    assert small.items() <= large.items()


def test_no_image_is_written_twice(tmp_path: Path) -> None:
    written = hashes(sample(tmp_path, category="all", count=12))
    images = [digest for name, digest in written.items() if "ground_truth" not in name]
    assert len(set(images)) == len(images)


def test_each_defect_is_drawn_into_a_normal_image_of_its_own(tmp_path: Path) -> None:
    """Two kinds of the same number differ nearly everywhere, not in their defects alone."""
    folder = sample(tmp_path) / "brick" / "test"
    images = [read_image(folder / kind / "000.png") for kind in ("good", *KINDS)]
    for first, second in combinations(images, 2):
        assert (first != second).mean() > 0.5


@pytest.mark.parametrize(
    ("name", "meant"), [("grvel", "gravel"), ("Brick", "brick"), ("al", "all")]
)
def test_unknown_category_is_refused_with_the_list_and_a_suggestion(
    tmp_path: Path, name: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match=f"brick, grass, gravel and all; did you mean {meant}"):
        sample(tmp_path / "data", category=name)
    assert not (tmp_path / "data").exists()


def test_category_like_no_other_gets_no_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"and all$"):
        sample(tmp_path / "data", category="bottle")


def test_used_folder_is_refused_and_left_alone_unless_overwrite(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(OutputError, match="already holds something"):
        sample(tmp_path)
    assert list(tmp_path.iterdir()) == [notes]
    sample(tmp_path, overwrite=True)
    assert notes.read_text() == "mine"
    assert (tmp_path / "brick" / "train" / "good" / "000.png").is_file()
