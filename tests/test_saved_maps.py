"""Saved maps: every format and layout, and the errors that name the file."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import write_category
from PIL import Image

from anomaly_cli.data.saved_maps import find_mapped_categories, mapped_split, read_map
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import write_png, write_tiff

RAMP = np.arange(12, dtype=np.float32).reshape(3, 4)


def save_map(path: Path, values: np.ndarray) -> Path:
    """Write by suffix, as other tools do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.tiff", "f2"),
        ("a.tiff", "f4"),
        ("a.tif", "f8"),
        ("a.tiff", "u2"),
        ("a.npy", "f2"),
        ("a.npy", "f8"),
        ("a.npy", "i8"),
        ("a.png", "u2"),
    ],
)
def test_map_is_read_as_float32(name: str, kind: str, tmp_path: Path) -> None:
    """16-bit float is what MVTec AD 2 asks for; Pillow cannot read it."""
    values = read_map(save_map(tmp_path / name, RAMP.astype(kind)))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, RAMP)


def test_single_channel_axis_is_dropped(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_map(save_map(tmp_path / "a.npy", RAMP[None])), RAMP)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("a.png", RAMP.astype("u1"), "8-bit picture"),
        ("a.npy", np.zeros((3, 4, 3), np.float32), r"shape \(3, 4, 3\)"),
        ("a.npy", np.zeros((3, 4), bool), "holds bool"),
    ],
)
def test_pictures_and_masks_are_no_maps(
    name: str, values: np.ndarray, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_map(save_map(tmp_path / name, values))


@pytest.mark.parametrize("name", ["a.tiff", "a.npy", "a.png"])
def test_damaged_map_is_named(name: str, tmp_path: Path) -> None:
    path = save_map(tmp_path / name, RAMP.astype("u2"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=rf"cannot read .*{name}"):
        read_map(path)


def test_pickled_array_is_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot read .*a\.npy"):
        read_map(tmp_path / "a.npy")


# Layouts


def write_maps(folder: Path) -> None:
    """Write a map for each test image of `write_category`, below the folder of the defect types."""
    for kind in ("good", "hole"):
        for index in range(3):
            path = folder / kind / f"{index:03}.tiff"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tiff(path, np.zeros((64, 64), np.float32))


@pytest.mark.parametrize("place", ["disc/test", "disc", "test", "."])
def test_layouts_are_found(place: str, mvtec: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    write_maps(maps / place)
    assert find_mapped_categories(mvtec, maps, "all") == ["disc"]
    split = mapped_split(mvtec, maps, "disc", with_good=True)
    assert [s.defect_type for s in split.samples] == ["good"] * 3 + ["hole"] * 3
    assert [path.stem for path in split.paths] == ["000", "001", "002"] * 2
    assert len(mapped_split(mvtec, maps, "disc", with_good=False).samples) == 3


def test_ground_truth_alone_is_enough(mvtec: Path, tmp_path: Path) -> None:
    """Masks name the anomalous images, maps under good the normal ones."""
    (mvtec / "disc/test").rename(tmp_path / "elsewhere")
    write_maps(tmp_path / "maps/disc/test")
    split = mapped_split(mvtec, tmp_path / "maps", "disc", with_good=True)
    assert [s.defect_type for s in split.samples] == ["good"] * 3 + ["hole"] * 3
    assert [s.mask_path is not None for s in split.samples] == [False] * 3 + [True] * 3


def test_categories_without_maps_are_left_out_of_all(mvtec: Path, tmp_path: Path) -> None:
    write_category(mvtec, "ring")
    write_maps(tmp_path / "maps/ring/test")
    assert find_mapped_categories(mvtec, tmp_path / "maps", "all") == ["ring"]


def test_missing_map_is_named_with_its_place(mvtec: Path, tmp_path: Path) -> None:
    write_maps(tmp_path / "disc/test")
    (tmp_path / "disc/test/hole/001.tiff").unlink()
    with pytest.raises(DataError, match=r"hole/001\.png has no map; expected .*hole/001\.tiff"):
        mapped_split(mvtec, tmp_path, "disc", with_good=True)


def test_map_without_an_image_is_named(mvtec: Path, tmp_path: Path) -> None:
    write_maps(tmp_path / "disc/test")
    write_tiff(tmp_path / "disc/test/hole/007.tiff", RAMP)
    with pytest.raises(DataError, match=r"hole/007\.tiff belongs to no test image of disc"):
        mapped_split(mvtec, tmp_path, "disc", with_good=True)


def test_no_category_in_common_lists_those_with_a_ground_truth(mvtec: Path, tmp_path: Path) -> None:
    write_maps(tmp_path / "cable/test")
    write_category(mvtec, "ring")
    with pytest.raises(DataError, match="with one: disc, ring"):
        find_mapped_categories(mvtec, tmp_path / "cable", "all")
    with pytest.raises(DataError, match="does not exist"):
        find_mapped_categories(mvtec, tmp_path / "nowhere", "all")
    with pytest.raises(DataError, match="no maps of ring under"):
        mapped_split(mvtec, tmp_path, "ring", with_good=True)


def test_an_archive_called_npy_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.zeros((4, 4), np.float32))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(DataError, match="archive of arrays"):
        read_map(tmp_path / "x.npy")


def test_an_array_file_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 4), np.float32))
    content = (tmp_path / "x.npy").read_bytes()
    for claimed in (b"(8, 8), }", b"(9999999, 9999999), }"):
        changed = content.replace(b"(4, 4), }".ljust(len(claimed)), claimed)
        (tmp_path / "x.npy").write_bytes(changed)
        with pytest.raises(DataError, match=r"cannot read .*x\.npy"):
            read_map(tmp_path / "x.npy")


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_values_that_float32_cannot_tell_apart_are_refused(tmp_path: Path, kind: Any) -> None:
    fine = np.arange(64).reshape(8, 8)
    values = 1 - 1e-9 * fine if kind is np.float64 else 2**40 + fine
    np.save(tmp_path / "x.npy", values.astype(kind))
    with pytest.raises(DataError, match=r"64 different values, of which float32 tells \d apart"):
        read_map(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", fine.astype(kind))
    np.testing.assert_array_equal(read_map(tmp_path / "x.npy"), fine)


def test_two_maps_of_one_image_are_refused_by_name(tmp_path: Path) -> None:
    data, maps = write_split(tmp_path)
    first = next(maps.glob("**/*.npy"))
    tifffile.imwrite(first.with_suffix(".tiff"), np.load(first))
    with pytest.raises(DataError, match=r"\.npy and .*\.tiff are both the map of one image"):
        mapped_split(data, maps, "c", with_good=True)


def test_empty_masks_of_normal_images_are_needless(tmp_path: Path) -> None:
    data, maps = write_split(tmp_path)
    shutil.rmtree(data / "c/test")
    expected = mapped_split(data, maps, "c", with_good=True)
    write_png(data / "c/ground_truth/good/000_mask.png", np.zeros((4, 4), bool))
    assert mapped_split(data, maps, "c", with_good=True) == expected


def write_split(root: Path) -> tuple[Path, Path]:
    """Write two images of each label with a mask, and their maps."""
    data, maps = root / "d", root / "m"
    for kind in ("good", "hole"):
        for number in range(2):
            write_png(data / f"c/test/{kind}/{number:03}.png", np.zeros((4, 4), bool))
            path = maps / f"c/test/{kind}/{number:03}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.random.default_rng(number).random((4, 4)))
    for number in range(2):
        write_png(data / f"c/ground_truth/hole/{number:03}_mask.png", np.eye(4, dtype=bool))
    return data, maps
