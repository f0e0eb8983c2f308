"""Every kind of finding, provoked on its own in a data set that is otherwise clean."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SIZE, draw_hole, draw_part, write_category
from numpy.typing import NDArray
from PIL import Image

from anomaly_cli.data.checks.checks import check_category, check_root
from anomaly_cli.data.checks.duplicates import (
    HASH_BITS,
    describe,
    group_equal,
    near_copies,
    perceptual_hash,
    usual_distance,
)
from anomaly_cli.data.checks.findings import RULES, Finding, Severity
from anomaly_cli.data.checks.inspection import (
    ImageFacts,
    MaskFacts,
    Unreadable,
    collect,
    inspect_files,
    inspect_image,
    inspect_mask,
    list_category,
)
from anomaly_cli.files.images import write_png
from anomaly_cli.files.read import read_mask

FULL = np.ones((SIZE, SIZE), bool)
EDGE = np.eye(SIZE, dtype=np.uint8)


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Write a clean category: 20 normal images, 3 normal test images and 3 with a hole."""
    return write_category(tmp_path / "mvtec", "disc", train=20)


def check(folder: Path, *, image_size: int = SIZE) -> list[Finding]:
    files = list_category(folder)
    facts = collect(files, inspect_files(files, workers=2))
    return check_root(folder.parent) + check_category(facts, image_size=image_size)


def found_in(folder: Path, *, image_size: int = SIZE) -> dict[str, list[tuple[str, ...]]]:
    """Kind of finding -> its places, each as relative paths and the detail."""
    return {
        finding.kind: [
            (
                *(str(p.relative_to(folder.parent)).removeprefix("disc/") for p in place.paths),
                place.detail,
            )
            for place in finding.places
        ]
        for finding in check(folder, image_size=image_size)
    }


def test_clean_data_gives_no_finding(disc: Path) -> None:
    assert check(disc) == []


# What breaks a data set, by the finding that must follow: (break it, places)

Break = Callable[[Path], object]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def keep(folder: Path, count: int) -> None:
    for path in sorted(folder.glob("*"))[count:]:
        path.unlink()


def write_text(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text")


def save_deep(path: Path, values: NDArray[np.float64]) -> None:
    """Write a 16-bit image, whose `values` are shares of the range."""
    Image.fromarray((values * 65535).astype(np.uint16)).save(path)


def make_all_deep(folder: Path) -> None:
    for number, path in enumerate(sorted(folder.glob("t*/*/*.png"))):
        save_deep(path, draw_part(number)[..., 0] / 255)


def drop_test(folder: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(folder / "test" / name)
        shutil.rmtree(folder / "ground_truth" / name, ignore_errors=True)


BREAKS: dict[str, tuple[Break, list[tuple[str, ...]]]] = {
    "unreadable": (
        lambda d: truncate(d / "test/good/001.png"),
        [("test/good/001.png", "image file is truncated")],
    ),
    "too-few-normal": (
        lambda d: keep(d / "train/good", 2),
        [("train/good", "2 readable")],
    ),
    "mask-missing": (
        lambda d: (d / "ground_truth/hole/001_mask.png").unlink(),
        [("test/hole/001.png", "expected ground_truth/hole/001_mask.png")],
    ),
    "mask-empty": (
        lambda d: write_png(d / "ground_truth/hole/001_mask.png", ~FULL),
        [("ground_truth/hole/001_mask.png", "")],
    ),
    "mask-size": (
        lambda d: write_png(d / "ground_truth/hole/001_mask.png", np.eye(32, 48, dtype=bool)),
        [("ground_truth/hole/001_mask.png", "48 x 32, image 64 x 64")],
    ),
    "mask-of-normal": (
        lambda d: write_png(d / "ground_truth/good/001_mask.png", FULL),
        [("ground_truth/good/001_mask.png", "4096 pixels")],
    ),
    "leak": (
        lambda d: shutil.copy(d / "train/good/004.png", d / "test/good/001.png"),
        [("train/good/004.png", "test/good/001.png", "")],
    ),
    "contradiction": (
        lambda d: shutil.copy(d / "test/hole/000.png", d / "test/good/001.png"),
        [("test/good/001.png", "test/hole/000.png", "")],
    ),
    "few-normal": (
        lambda d: keep(d / "train/good", 19),
        [("train/good", "19 readable")],
    ),
    "no-test": (
        lambda d: drop_test(d, "good", "hole"),
        [("test", "")],
    ),
    "no-normal-test": (
        lambda d: drop_test(d, "good"),
        [("test/good", "")],
    ),
    "no-defect-test": (
        lambda d: drop_test(d, "hole"),
        [("test", "")],
    ),
    "mask-orphan": (
        lambda d: (d / "test/hole/001.png").unlink(),
        [("ground_truth/hole/001_mask.png", "")],
    ),
    "mask-full": (
        lambda d: write_png(d / "ground_truth/hole/001_mask.png", FULL),
        [("ground_truth/hole/001_mask.png", "")],
    ),
    "mask-lossy": (
        lambda d: (
            Image.open(d / "ground_truth/hole/001_mask.png").save(d / "ground_truth/hole/001.JPG"),
            (d / "ground_truth/hole/001_mask.png").unlink(),
        ),
        [("ground_truth/hole/001.JPG", "")],
    ),
    "mask-grey": (
        lambda d: write_png(
            d / "ground_truth/hole/001_mask.png", np.tri(SIZE, dtype=np.uint8) + EDGE
        ),
        [("ground_truth/hole/001_mask.png", "")],
    ),
    "mask-inverted": (
        lambda d: [write_png(p, ~read_mask(p)) for p in (d / "ground_truth/hole").iterdir()],
        [(f"ground_truth/hole/00{number}_mask.png", "") for number in range(3)],
    ),
    "mask-twice": (
        lambda d: shutil.copy(
            d / "ground_truth/hole/001_mask.png", d / "ground_truth/hole/001_mask.bmp"
        ),
        [("ground_truth/hole/001_mask.bmp", "ground_truth/hole/001_mask.png", "")],
    ),
    "pages": (
        lambda d: Image.open(d / "train/good/002.png").save(
            d / "train/good/002.png", save_all=True, append_images=[Image.new("RGB", (64, 64))]
        ),
        [("train/good/002.png", "2 of them")],
    ),
    "blank": (
        lambda d: write_png(d / "train/good/002.png", np.full((SIZE, SIZE, 3), 7, np.uint8)),
        [("train/good/002.png", "7 of 255")],
    ),
    "dark-deep": (
        lambda d: (make_all_deep(d), save_deep(d / "test/good/001.png", np.eye(SIZE) / 16)),
        [("test/good/001.png", "up to 6.3% of it")],
    ),
    "mixed-depth": (
        lambda d: save_deep(d / "train/good/003.png", draw_part(3)[..., 0] / 255),
        [("train/good/003.png", "16 bits, most common is 8 bits")],
    ),
    "mixed-colour": (
        lambda d: write_png(d / "test/good/002.png", draw_part(77)[..., 0]),
        [("test/good/002.png", "grey, most common is colour")],
    ),
    "mixed-size": (
        lambda d: Image.fromarray(draw_part(77)).resize((80, 64)).save(d / "train/good/003.png"),
        [("train/good/003.png", "80 x 64, most common is 64 x 64")],
    ),
    "small": (
        lambda d: Image.fromarray(draw_part(77)).resize((64, 60)).save(d / "train/good/003.png"),
        [("train/good/003.png", "64 x 60, network 64")],
    ),
    "duplicate": (
        lambda d: shutil.copy(d / "train/good/004.png", d / "train/good/010.png"),
        [("train/good/004.png", "train/good/010.png", "")],
    ),
    "near-leak": (
        lambda d: write_png(d / "test/good/001.png", draw_part(4) + np.uint8(3)),
        [("train/good/004.png", "test/good/001.png", "0 of 255 bits differ")],
    ),
    "stray": (
        lambda d: write_png(d / "train/good/more/0.png", draw_part(77)),
        [("train/good/more/0.png", "")],
    ),
    "no-category": (
        lambda d: write_png(d.parent / "nut/train/Good/0.png", draw_part(77)),
        [("nut", "")],
    ),
    "near-duplicate": (
        lambda d: write_png(d / "train/good/012.png", draw_part(4) + np.uint8(3)),
        [("train/good/004.png", "train/good/012.png", "0 of 255 bits differ")],
    ),
    "deep": (
        make_all_deep,
        [(f"{place}/{i:03}.png", "") for place, count in (
            ("train/good", 20), ("test/good", 3), ("test/hole", 3),
        ) for i in range(count)],
    ),
    "mask-needless": (
        lambda d: write_png(d / "ground_truth/good/001_mask.png", ~FULL),
        [("ground_truth/good/001_mask.png", "")],
    ),
    "foreign": (
        lambda d: write_text(d / "train/good/Thumbs.db"),
        [("train/good/Thumbs.db", "")],
    ),
}  # fmt: skip

ALSO = {  # what follows from the same break
    "mixed-depth": {"mixed-colour"},
    "dark-deep": {"deep"},
    "small": {"mixed-size"},
}


def test_every_kind_of_finding_has_its_break() -> None:
    of_own_images = {"no-masks"}  # in test_cli_check_data.py
    assert set(BREAKS) == set(RULES) - of_own_images


@pytest.mark.parametrize("kind", BREAKS)
def test_break_gives_its_finding_and_no_other(disc: Path, kind: str) -> None:
    break_it, places = BREAKS[kind]
    break_it(disc)
    found = found_in(disc)
    assert found[kind] == places
    assert set(found) == {kind} | ALSO.get(kind, set())


def test_findings_know_their_category_and_rule(disc: Path) -> None:
    truncate(disc / "test/good/001.png")
    (finding,) = check(disc)
    assert finding.category == "disc"
    assert finding.rule.severity == Severity.ERROR
    assert finding.rule.what == "file cannot be decoded to its end"


# Details of single checks


def test_one_broken_file_hides_no_other(disc: Path) -> None:
    """Text, an empty file, half a mask, a link to nowhere: all are named, the rest is checked."""
    (disc / "train/good/000.png").write_text("text")
    (disc / "train/good/001.png").write_bytes(b"")
    (disc / "train/good/002.png").unlink()
    (disc / "train/good/002.png").symlink_to("nowhere.png")
    path = disc / "ground_truth/hole/001_mask.png"
    path.write_bytes(path.read_bytes()[:-30])
    write_png(disc / "ground_truth/hole/002_mask.png", ~FULL)
    found = found_in(disc)
    assert [place[0] for place in found["unreadable"]] == [
        *(f"train/good/00{i}.png" for i in range(3)),
        "ground_truth/hole/001_mask.png",
    ]
    assert [place[-1] for place in found["unreadable"]][:3] == [
        "not an image, or of an unknown format",
        "not an image, or of an unknown format",
        "No such file or directory",
    ]
    assert set(found) == {"unreadable", "few-normal", "mask-empty"}


def test_mask_of_another_shape_than_an_upright_photograph_is_found(disc: Path) -> None:
    """EXIF turns the image by a quarter, and its mask is compared with what is seen."""
    image, mask = draw_hole(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image[:48]).save(disc / "test/hole/001.png", exif=exif)  # seen 48 x 64
    write_png(disc / "ground_truth/hole/001_mask.png", mask[:, :48])
    assert "mask-size" not in found_in(disc)
    write_png(disc / "ground_truth/hole/001_mask.png", mask[:48])
    (place,) = found_in(disc)["mask-size"]
    assert place[-1] == "64 x 48, image 48 x 64"


def test_mask_of_the_same_name_belongs_to_its_image(disc: Path) -> None:
    path = disc / "ground_truth/hole/001_mask.png"
    path.rename(path.with_name("001.png"))
    assert check(disc) == []


def test_second_mask_of_an_image_is_an_orphan(disc: Path) -> None:
    folder = disc / "ground_truth/hole"
    shutil.copy(folder / "001_mask.png", folder / "001.png")
    assert found_in(disc) == {"mask-orphan": [("ground_truth/hole/001.png", "")]}


def test_masks_of_a_defect_type_without_images_are_orphans(disc: Path) -> None:
    shutil.copytree(disc / "ground_truth/hole", disc / "ground_truth/cut")
    places = found_in(disc)["mask-orphan"]
    assert [place[0] for place in places] == [f"ground_truth/cut/00{i}_mask.png" for i in range(3)]


def test_12_bits_in_16_look_black_and_a_quarter_of_the_range_does_not(disc: Path) -> None:
    make_all_deep(disc)
    save_deep(disc / "train/good/001.png", draw_part(1)[..., 0] / 255 / 16)
    save_deep(disc / "train/good/002.png", draw_part(2)[..., 0] / draw_part(2).max() / 4 + 0.002)
    assert [place[0] for place in found_in(disc)["dark-deep"]] == ["train/good/001.png"]


def test_16_bit_colour_is_deep_although_pillow_decodes_it_to_8_bits(tmp_path: Path) -> None:
    values = np.zeros((8, 8, 3), np.uint16)
    values[2:4] = 4095
    cv2.imwrite(str(tmp_path / "deep.png"), values)
    cv2.imwrite(str(tmp_path / "flat.png"), values.astype(np.uint8))
    deep, flat = inspect_image(tmp_path / "deep.png"), inspect_image(tmp_path / "flat.png")
    assert isinstance(deep, ImageFacts)
    assert isinstance(flat, ImageFacts)
    assert (deep.is_deep, deep.brightest) == (True, 15)
    assert not flat.is_deep


def test_grey_saved_as_rgb_is_grey(disc: Path) -> None:
    for path in disc.glob("t*/*/*.png"):
        grey = Image.open(path).convert("L")
        (grey if path.name == "001.png" else grey.convert("RGB")).save(path)
    assert check(disc) == []


def test_small_images_are_named_smallest_first(disc: Path) -> None:
    for name, side in (("001", 63), ("002", 40), ("003", 50)):
        Image.fromarray(draw_part(int(name))).resize((side, 90)).save(
            disc / f"train/good/{name}.png"
        )
    places = found_in(disc)["small"]
    assert [place[0][-7:-4] for place in places] == ["002", "003", "001"]
    assert len(found_in(disc, image_size=256)["small"]) == 26


def test_blank_images_are_no_duplicates_of_each_other(disc: Path) -> None:
    for name in ("train/good/001", "train/good/002", "test/good/001", "test/hole/001"):
        write_png(disc / f"{name}.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    assert set(found_in(disc)) == {"blank"}


def test_hidden_files_and_folders_are_passed_over(disc: Path) -> None:
    (disc / "train/good/._000.png").write_bytes(b"")
    (disc / "train/good/.DS_Store").write_bytes(b"")
    write_png(disc / ".thumbnails/000.png", draw_part(0))
    assert check(disc) == []


def test_same_pixels_in_another_format_are_a_leak(disc: Path) -> None:
    Image.open(disc / "train/good/004.png").save(disc / "test/good/copy.bmp")
    assert found_in(disc) == {"leak": [("train/good/004.png", "test/good/copy.bmp", "")]}


def test_picture_in_three_places_is_reported_pair_by_pair(disc: Path) -> None:
    source = disc / "train/good/004.png"
    for name in ("train/good/005.png", "test/good/001.png", "test/hole/001.png"):
        shutil.copy(source, disc / name)
    first, normal, hole = "train/good/004.png", "test/good/001.png", "test/hole/001.png"
    assert found_in(disc) == {
        "leak": [(first, normal, ""), (first, hole, "")],
        "contradiction": [(normal, hole, "")],
        "duplicate": [(first, "train/good/005.png", "")],
    }


def test_pixels_alone_decide_what_is_equal(tmp_path: Path) -> None:
    """Bytes of the same values in another shape are another picture."""
    for name, shape in (("a", (8, 2, 3)), ("b", (4, 4, 3)), ("c", (8, 2, 3))):
        write_png(tmp_path / f"{name}.png", np.arange(48, dtype=np.uint8).reshape(shape))
    images = [inspect_image(path) for path in sorted(tmp_path.glob("*.png"))]
    (group,) = group_equal([image for image in images if isinstance(image, ImageFacts)])
    assert [image.path.name for image in group] == ["a.png", "c.png"]
    assert group[0].digest == hashlib.sha256(b"2 8 " + bytes(range(48))).hexdigest()


# Near duplicates


def draw_print(seed: int) -> NDArray[np.float32]:
    """Draw a picture with structure of its own, (128, 128, 3) in [20, 235]."""
    coarse = np.random.default_rng(seed).uniform(20, 235, (16, 16, 3)).astype(np.float32)
    return cv2.resize(coarse, (128, 128), interpolation=cv2.INTER_LINEAR)


def save(path: Path, image: NDArray[np.float32], **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8)).save(path, **options)


def looks_of(folder: Path) -> tuple[list[ImageFacts], dict[str, Path]]:
    found = [inspect_image(path) for path in sorted(folder.glob("*"))]
    return [item for item in found if isinstance(item, ImageFacts)], {
        p.stem: p for p in folder.glob("*")
    }


def alter(image: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    return {
        "jpeg": image,
        "half": cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA),
        "brighter": image + 15,
        "contrast": image * 0.8 + 10,
        "noise": image + noise,
    }[how].astype(np.float32)


@pytest.mark.parametrize("how", ["jpeg", "half", "brighter", "contrast", "noise"])
def test_altered_copy_is_found_among_different_pictures(tmp_path: Path, how: str) -> None:
    for seed in range(10):
        save(tmp_path / f"{seed}.png", draw_print(seed))
    save(tmp_path / "copy.jpg", alter(draw_print(6), how), quality=50 if how == "jpeg" else 95)
    images, paths = looks_of(tmp_path)
    prints = describe(images)
    (pair,) = near_copies(prints, usual=usual_distance(prints.thumbnails))
    assert pair[:2] == (paths["6"], paths["copy"])
    assert pair.distance <= 12


def test_parts_with_one_fixed_print_are_no_copies_of_each_other(tmp_path: Path) -> None:
    """All hashes are nearly equal: the little that differs sets the parts apart."""
    noise = [cv2.resize(draw_print(100 + seed), (128, 128)) - 127 for seed in range(12)]
    for number, own in enumerate(noise):
        save(tmp_path / f"{number:02}.png", draw_print(0) + own * 0.02)
    images, paths = looks_of(tmp_path)
    prints = describe(images)
    hashes = [perceptual_hash(image.thumbnail) for image in images]
    distances = [int((a != b).sum()) for a in hashes for b in hashes]
    assert max(distances) <= 12
    assert near_copies(prints, usual=usual_distance(prints.thumbnails)) == []
    save(tmp_path / "copy.png", alter(draw_print(0) + noise[5] * 0.02, "brighter"))
    images, paths = looks_of(tmp_path)
    prints = describe(images)
    (pair,) = near_copies(prints, usual=usual_distance(prints.thumbnails))
    assert pair[:2] == (paths["05"], paths["copy"])


def test_hash_is_that_of_the_lowest_frequencies() -> None:
    """A cosine of 3 periods across has one high coefficient: the 6th of the first row."""
    columns = np.cos(np.pi * 6 * (np.arange(64) + 0.5) / 64)
    thumbnail = np.tile(columns, (64, 1)).astype(np.float32) * 100 + 128
    coefficients = cv2.dct(thumbnail)[:16, :16].ravel()[1:]
    assert np.argmax(coefficients) == 5
    hashed = perceptual_hash(thumbnail)
    assert hashed.shape == (HASH_BITS,)
    assert hashed[5]


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (1, 40), (0.7, -10)])
def test_hash_ignores_brightness_and_contrast(gain: float, offset: float) -> None:
    thumbnail = cv2.resize(draw_print(3), (64, 64)).mean(axis=2)
    changed = perceptual_hash((thumbnail * gain + offset).astype(np.float32))
    assert (changed != perceptual_hash(thumbnail)).sum() <= 2


def test_copies_are_found_among_more_images_than_are_compared_at_once() -> None:
    """Each copy is listed once, with the closest image before it, however far apart they are."""
    generator = np.random.default_rng(0)
    coarse = generator.uniform(20, 235, (700, 16, 16)).astype(np.float32)
    thumbnails = [cv2.resize(image, (64, 64)) for image in coarse]
    originals = {511: 510, 512: 511, 513: 7, 650: 7, 651: 600}
    for copy, original in originals.items():
        thumbnails[copy] = thumbnails[original] + generator.normal(0, 2, (64, 64))
    facts = [
        ImageFacts(Path(f"{number:03}"), 64, 64, True, False, 0, 255, str(number), thumbnail)
        for number, thumbnail in enumerate(thumbnails)
    ]
    images = describe(facts)
    usual = usual_distance(images.thumbnails)
    found = near_copies(images, usual=usual)
    pairs = sorted((int(pair.second.name), int(pair.first.name)) for pair in found)
    assert [copy for copy, _original in pairs] == sorted(originals)
    assert dict(pairs) == originals
    few = [facts[number] for number in (7, 510, 511, 512, 513, 600, 650, 651)]
    assert near_copies(describe(few), usual=usual) == found


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_have_no_copies(count: int) -> None:
    thumbnail = np.eye(64, dtype=np.float32)
    facts = ImageFacts(Path("a"), 9, 9, True, False, 0, 9, "digest", thumbnail)
    prints = describe([facts] * count)
    assert usual_distance(prints.thumbnails) == 0
    assert near_copies(prints, usual=0) == []
    assert near_copies(prints, describe([]), usual=0) == []


# Inspection


def test_files_are_inspected_once_each_in_their_order(disc: Path) -> None:
    files = list_category(disc)
    facts = list(inspect_files(files, workers=3))
    assert [item.path for item in facts] == [*files.images, *files.all_masks]
    assert len(facts) == files.total == 29
    assert sum(isinstance(item, MaskFacts) for item in facts) == 3


def test_mask_is_measured(disc: Path) -> None:
    mask = inspect_mask(disc / "ground_truth/hole/000_mask.png")
    assert mask == MaskFacts(disc / "ground_truth/hole/000_mask.png", 64, 64, 100, 2, False)


def test_unreadable_mask_is_reported_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    assert inspect_mask(path) == Unreadable(path, "No such file or directory")


# Real data


@pytest.mark.data
def test_real_bottles_have_no_errors_and_no_copies(real_data: Path) -> None:
    """292 bottles from one camera look alike, and none is taken for a copy of another."""
    assert check(real_data / "mvtec/bottle", image_size=256) == []
