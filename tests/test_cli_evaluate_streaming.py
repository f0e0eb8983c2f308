"""`evaluate --counting streaming`: whatever the maps, the exact value lies in the printed range."""

import os
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from example_maps import CATEGORY, evaluate, read, write_sample, write_split
from numpy.typing import NDArray

from anomaly_cli.evaluation.counts import PILOT_IMAGES
from anomaly_cli.evaluation.results import RANGED

IMAGES = 24
SIDE = 16
STEP = 2.0**-23  # between two numbers above 1; 2**-11 of them share a bin of the histogram
FLAT = np.ones((SIDE, SIDE))


def draw_hostile(kind: str, rng: np.random.Generator, mask: NDArray[np.bool_]) -> np.ndarray:
    """Scores (16, 16) that are hard to count in bins."""
    shape = mask.shape
    gain = rng.uniform(0, 2) * mask
    if kind == "infinite":
        return rng.choice([-np.inf, -1e-45, -0.0, 0.0, 1e-45, np.inf], shape)
    return {
        "constant": FLAT,
        "ties": np.round(np.maximum(rng.normal(gain), 0)),
        "heavy tail": rng.standard_cauchy(shape) * 10.0 ** (6 * gain),
        "log-normal": rng.lognormal(gain, 3),
        "one bin": 1 + rng.integers(0, 400, shape) * STEP,
        "close below one": 1 / (1 + np.exp(-12 - rng.normal(gain))),
    }[kind]


KINDS = ("constant", "ties", "heavy tail", "log-normal", "one bin", "close below one", "infinite")


def pilot_places() -> set[int]:
    """Images, in the order of the split, by which streaming chooses its bins."""
    return set(np.linspace(0, IMAGES - 1, PILOT_IMAGES).astype(int).tolist())


def draw_blind(place: int, mask: NDArray[np.bool_], *, is_upside_down: bool) -> np.ndarray:
    """Write a flat pilot; in all other images both classes share one bin, one above the other."""
    if place in pilot_places():
        return FLAT
    return 1 + (100 + 100 * (mask != is_upside_down)) * STEP


def write_hostile(root: Path, seed: int) -> Path:
    """Write a category of each kind; defect types "a" to "c" and "good", six images of each."""
    rng = np.random.default_rng(seed)
    for kind in (*KINDS, "blind", "blind upside down"):
        for place in range(IMAGES):
            defect = ("a", "b", "c", "good")[place // 6]
            mask = (rng.random((SIDE, SIDE)) < 0.1) & (defect != "good")
            mask[2:5, 3:9] = defect != "good"
            if kind.startswith("blind"):
                scores = draw_blind(place, mask, is_upside_down="down" in kind)
            else:
                scores = draw_hostile(kind, rng, mask)
            truth = None if defect == "good" else mask
            write_sample(root, f"{kind}|{defect}|{place:03}", scores.astype(np.float32), truth)
    return root


def printed_ranges(text: str) -> dict[str, list[tuple[float, float]]]:
    """Read the ranges of `report.md` by category or mean, as RANGED orders them, if defined."""
    table = text.split("## Ranges")[1].split("\n## ", maxsplit=1)[0]
    found = {}
    for line in table.splitlines()[4:]:
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        ends = [re.findall(r"\d\.\d+", cell) for cell in cells]
        found[name] = [(float(pair[0]), float(pair[-1])) for pair in ends if pair]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_exact_values_lie_in_the_ranges_of_every_format(tmp_path: Path, seed: int) -> None:
    """Ties, heavy tails, constants, all scores in one bin, and a pilot that saw none of it."""
    root = write_hostile(tmp_path, seed)
    options = ("--replicates", 0, "--format", "json,markdown,csv")
    assert evaluate(root, *options, output="exact").code == 0
    outcome = evaluate(root, *options, "--counting", "streaming", output="streaming")
    assert outcome.code == 0, outcome.stderr
    exact, streaming = read(root, "exact"), read(root, "streaming")
    printed = printed_ranges((root / "streaming/report.md").read_text())
    for old, new in zip(exact["categories"], streaming["categories"], strict=True):
        assert (old["counting"], new["counting"]) == ("exact", "streaming")
        for metric, text in zip(RANGED, printed[new["category"]], strict=True):
            low, high = new["ranges"][metric]
            assert low - 1e-10 <= old[metric] <= high + 1e-10, (new["category"], metric)
            assert low <= new[metric] <= high
            slack = 5e-6 if text[0] == text[1] else 1e-10  # a point is rounded to the nearest
            assert text[0] - slack <= old[metric] <= text[1] + slack
            assert old["ranges"][metric] == [old[metric]] * 2
        for before, after in zip(old["defect_types"], new["defect_types"], strict=True):
            if before["pixel_auroc"] is not None:
                error = abs(before["pixel_auroc"] - after["pixel_auroc"])
                assert error <= after["pixel_auroc_bound"] + 1e-10
    for group, ranges in streaming["mean_ranges"].items():
        for metric, (low, high) in ranges.items():
            assert low - 1e-10 <= exact["means"][group][metric] <= high + 1e-10
    assert f"mean of {group}" in printed
    wide = {
        row["category"]: np.ptp(row["ranges"]["pixel_auroc"]) for row in streaming["categories"]
    }
    assert wide["constant"] == wide["ties"] == wide["infinite"] == 0
    assert wide["one bin"] < 0.05, "a pilot that saw the scores cuts the bin"
    assert wide["blind"] > 0.1, "one that did not leaves a wide range"


def test_no_bar_is_met_by_luck(tmp_path: Path) -> None:
    """Upside down: the middle of the range is above the bar, the exact value below it."""
    root = write_hostile(tmp_path, 0)
    options = ("--category", "blind upside down", "--fail-under", "pixel_auroc=0.47")
    outcome = evaluate(root, *options, "--counting", "streaming")
    assert outcome.code == 10
    (gate,) = read(root)["gates"]
    assert gate["value"] >= 0.47 > gate["at_least"]
    assert not gate["is_met"]
    assert re.search(r"at least 0\.\d{5}, falls short of 0\.47", outcome.stderr)
    assert "(at least 0." in outcome.stdout
    assert evaluate(root, *options, output="exact").code == 10
    better = (*options[:3], "pixel_auroc=0.43", "--counting", "streaming")
    assert evaluate(root, *better, output="low").code == 0


def test_a_drop_is_judged_by_the_far_ends_of_both_ranges(tmp_path: Path) -> None:
    """Maps are compared with themselves, but two wide ranges may hide a drop."""
    root = write_hostile(tmp_path, 0)
    options = ("--counting", "streaming", "--format", "json", "--max-drop", 0)
    evaluate(root, *options, output="old")
    against = (*options, "--baseline", root / "old/report.json")
    assert evaluate(root, *against, "--category", "ties", output="ties").code == 0
    outcome = evaluate(root, *against, "--category", "blind", output="blind")
    assert outcome.code == 10
    assert re.search(r"the baseline's 0\.\d+ \(.*\), at most 0\.\d{5}", outcome.stderr)


def test_everything_at_a_threshold_is_exact(tmp_path: Path) -> None:
    """Given, the maps are read once; at that of the best IoU twice. Image metrics are exact."""
    root = write_split(tmp_path)
    for threshold in (("--threshold", "1.0"), ()):
        name = f"out{len(threshold)}"
        assert evaluate(root, *threshold, output=f"{name}-exact").code == 0
        options = (*threshold, "--counting", "streaming")
        assert evaluate(root, *options, output=f"{name}-streaming").code == 0
        (old,), (new,) = (
            read(root, f"{name}-{way}")["categories"] for way in ("exact", "streaming")
        )
        for key in ("image_auroc", "image_best_f1", "iou", "recall", "image_recall", "regions"):
            assert old[key] == new[key], key
        if threshold:
            assert old["image_table"] == new["image_table"]
        else:
            called = sum(
                row["called_area"] * row["iou"] for row in new["image_table"] if row["iou"]
            )
            assert called > 0
        for metric in ("pixel_auroc", "best_iou", "image_auroc"):
            assert new["intervals"][metric] == pytest.approx(old["intervals"][metric], abs=0.01)
        assert (root / f"{name}-streaming/report.html").stat().st_size > 10_000


def test_defect_type_without_pixels_of_the_other_class_is_undefined(tmp_path: Path) -> None:
    root = write_split(tmp_path)
    assert evaluate(root, "--counting", "streaming", "--format", "json").code == 0
    (row,) = read(root)["categories"]
    good = next(kind for kind in row["defect_types"] if kind["defect_type"] == "good")
    assert good["pixel_auroc"] is good["pixel_auroc_bound"] is None


def link_split(root: Path, images: int) -> Path:
    """Write nine maps (512, 512) under as many names as asked for."""
    for place in range(9):
        rng = np.random.default_rng(place)
        mask = np.zeros((512, 512), bool)
        mask[50:90, 40:200] = True
        kind = ("good", "cut", "hole")[place % 3]
        scores = rng.standard_normal((512, 512), np.float32)
        write_sample(root, f"{CATEGORY}|{kind}|{place:03}", scores, mask if place % 3 else None)
    for place in range(9, images):
        for path in root.rglob(f"{place % 9:03}*.*"):
            os.link(path, path.with_name(path.name.replace(f"{place % 9:03}", f"{place:03}")))
    return root


def peak_mib(root: Path, counting: str) -> float:
    """Highest memory of the arrays and objects of an evaluation."""
    tracemalloc.start()
    outcome = evaluate(root, "--counting", counting, "--format", "json")
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    shutil.rmtree(root / "out")
    assert outcome.code == 0, outcome.stderr
    return peak


def test_memory_does_not_grow_with_the_number_of_maps(tmp_path: Path) -> None:
    """60 maps more are 60 MiB of pixels, which exact counts keep twice."""
    few, many = (link_split(tmp_path / str(count), count) for count in (20, 80))
    growth = {way: peak_mib(many, way) - peak_mib(few, way) for way in ("exact", "streaming")}
    assert growth["exact"] > 60
    assert growth["streaming"] < 2
