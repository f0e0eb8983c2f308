"""Bars: what is understood, what passes, and what never does."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from example_reports import PILL, TILE, WOOD, full_report, report, troubled_report

from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.evaluation.gates import (
    COMPARED,
    Bar,
    differing_settings,
    judge_bars,
    judge_baseline,
    parse_bars,
    read_baseline,
    require_categories,
)
from anomaly_cli.evaluation.reports.machine import json_document
from anomaly_cli.evaluation.reports.wording import verdict
from anomaly_cli.evaluation.results import EvaluationReport


def test_bar_names_a_metric_and_perhaps_a_category() -> None:
    bars = parse_bars(["pixel_auroc=0.85", "bottle:best_iou=0.2", "a:b=c:recall=1"])
    assert bars == [
        Bar(None, "pixel_auroc", 0.85),
        Bar("bottle", "best_iou", 0.2),
        Bar("a:b=c", "recall", 1.0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pixel_auorc=0.8", "no metric pixel_auorc; did you mean pixel_auroc"),
        ("wood:iuo=0.8", "no metric iuo; did you mean iou"),
        ("pixel_auroc", "no metric pixel_auroc"),
        ("pixel_auroc=", "nothing is no number"),
        ("pixel_auroc=nan", "no number from 0 to 1"),
        ("pixel_auroc=85", "no number from 0 to 1"),
        ("threshold=0.5", "no metric threshold"),
        ("image_false_positive_rate=0.1", "better when lower"),
    ],
)
def test_bar_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_bars([text])


def test_bar_for_a_category_that_is_not_evaluated_is_refused() -> None:
    bars = parse_bars(["botle:iou=0.5"])
    with pytest.raises(ConfigError, match="botle is not evaluated; did you mean bottle"):
        require_categories(bars, ["bottle", "cable"])
    require_categories(parse_bars(["bottle:iou=0.5", "all:iou=0.5", "iou=0.5"]), ["bottle"])


def test_bar_holds_for_each_category_for_one_or_for_a_mean() -> None:
    """Means: textures (0.8 + 0.6) / 2, all (0.8 + 0.6 + 0.4) / 3."""
    bars = parse_bars([f"{scope}pixel_auroc=0.6" for scope in ("", "pill:", "textures:", "all:")])
    gates = judge_bars(report(WOOD, TILE, PILL), bars)
    assert [(gate.category, round(gate.value, 9), gate.is_met) for gate in gates] == [
        ("wood", 0.8, True),
        ("tile", 0.6, True),
        ("pill", 0.4, False),
        ("pill", 0.4, False),
        ("textures", 0.7, True),
        ("all", 0.6, True),
    ]


def test_category_called_all_comes_before_the_mean() -> None:
    row = replace(WOOD, category="all", pixel_auroc=0.1)
    (gate,) = judge_bars(report(row, TILE), parse_bars(["all:pixel_auroc=0.5"]))
    assert gate.value == 0.1


@pytest.mark.parametrize("scope", ["", "objects:"])
def test_undefined_never_passes(scope: str) -> None:
    """Not even a bar of 0; nor does the mean of a group that has no category."""
    (gate,) = judge_bars(report(PILL), parse_bars([f"{scope}aupro=0"]))
    assert math.isnan(gate.value)
    assert not gate.is_met
    assert "n/a falls short of 0" in verdict(gate)
    (gate,) = judge_bars(report(PILL), parse_bars(["textures:iou=0"]))
    assert not gate.is_met


def test_the_low_end_of_a_range_must_meet_the_bar() -> None:
    """Streaming gives 0.8, of which 0.7985 is certain; the value of an optimum is certain."""
    (wood, *_) = troubled_report().results
    counted = EvaluationReport(results=(wood,))
    bars = [f"{scope}pixel_auroc={value}" for scope in ("", "all:") for value in (0.7985, 0.799)]
    gates = judge_bars(counted, parse_bars([*bars, "best_iou=0.3"]))
    assert [gate.is_met for gate in gates] == [True, False, True, False, True]
    assert [gate.value for gate in gates[:2]] == [0.8, 0.8]
    assert "0.800 (0.750 to 0.850), at least 0.79850, falls short of 0.799" in verdict(gates[1])


def test_mean_that_misses_a_failed_category_meets_no_bar() -> None:
    """`grid`, a texture, and `cable`, an object, failed; `wood` alone keeps its own bar."""
    scopes = ("textures", "objects", "all", "grid", "wood")
    gates = judge_bars(troubled_report(), parse_bars([f"{scope}:iou=0" for scope in scopes]))
    assert [gate.is_met for gate in gates] == [False, False, False, False, True]
    assert all(math.isnan(gate.value) for gate in gates[:4])
    assert all(math.isnan(end) for gate in gates[:4] for end in gate.interval)


# Baselines


def save(path: Path, *rows: object) -> Path:
    path.write_text(json_document(report(*rows)), encoding="utf-8")  # type: ignore[arg-type]
    return path


def judge(tmp_path: Path, old: list[object], new: list[object], **options: object) -> list[str]:
    """Metrics that fell too far, as `category:metric`."""
    baseline = read_baseline(save(tmp_path / "old.json", *old))
    settings = {"max_drop": 0.01, "is_complete": True} | options
    gates = judge_baseline(report(*new), baseline, **settings)  # type: ignore[arg-type]
    return [f"{gate.category}:{gate.metric}" for gate in gates if not gate.is_met]


def test_drop_up_to_the_allowed_one_passes(tmp_path: Path) -> None:
    """0.8 -> 0.79 is a drop of 0.01, in floating point a little more."""
    assert judge(tmp_path, [WOOD], [replace(WOOD, pixel_auroc=0.79)]) == []
    assert judge(tmp_path, [WOOD], [replace(WOOD, pixel_auroc=0.789)]) == ["wood:pixel_auroc"]
    assert judge(tmp_path, [WOOD], [replace(WOOD, pixel_auroc=1.0, precision=0.0)]) == []


def test_drop_is_certain_only_between_the_far_ends_of_both_ranges(tmp_path: Path) -> None:
    """Old at most 0.8015, new at least 0.7985: a drop of 0.003 may hide behind equal values."""
    path = tmp_path / "old.json"
    path.write_text(json_document(troubled_report()), encoding="utf-8")
    baseline = read_baseline(path)
    for max_drop, expected in ((0.0031, True), (0.0029, False)):
        gates = judge_baseline(troubled_report(), baseline, max_drop=max_drop, is_complete=False)
        (gate,) = [g for g in gates if (g.category, g.metric) == ("wood", "pixel_auroc")]
        assert gate.is_met is expected
        assert (gate.at_least, gate.baseline_at_most) == (0.7985, 0.8015)
    assert "the baseline's 0.800 (0.750 to 0.850), at most 0.80150" in verdict(gate)


def test_metric_that_became_undefined_has_dropped(tmp_path: Path) -> None:
    assert judge(tmp_path, [WOOD], [replace(WOOD, aupro=math.nan)]) == ["wood:aupro"]
    assert judge(tmp_path, [replace(WOOD, aupro=math.nan)], [WOOD]) == []


def test_category_that_vanished_has_dropped_unless_one_was_chosen(tmp_path: Path) -> None:
    assert judge(tmp_path, [WOOD, TILE], [WOOD]) == [
        f"tile:{metric}" for metric in COMPARED if metric != "aupro"
    ]
    assert judge(tmp_path, [WOOD, TILE], [WOOD], is_complete=False) == []


def test_baseline_of_fewer_metrics_is_compared_by_those_it_has(tmp_path: Path) -> None:
    """A report of an older version of the tool."""
    path = save(tmp_path / "old.json", WOOD)
    content = json.loads(path.read_text())
    del content["categories"][0]["image_best_f1"], content["categories"][0]["intervals"]
    path.write_text(json.dumps(content))
    gates = judge_baseline(report(WOOD), read_baseline(path), max_drop=0.0, is_complete=True)
    assert [gate.metric for gate in gates] == [m for m in COMPARED if m != "image_best_f1"]


def test_verdict_shows_both_intervals(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json_document(full_report()), encoding="utf-8")
    baseline = read_baseline(tmp_path / "old.json")
    gates = judge_baseline(full_report(), baseline, max_drop=0.01, is_complete=True)
    assert verdict(gates[0]) == (
        "wood: pixel_auroc 0.800 (0.750 to 0.850) is at most 0.01 below "
        "the baseline's 0.800 (0.750 to 0.850)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the baseline"),
        ("not json", "is no report"),
        ("[1]", "is no report"),
        ('{"categories": []}', "is no report"),
        ('{"schema_version": 1, "categories": [3]}', "is no report"),
        ('{"schema_version": 99, "categories": []}', "schema version 99"),
    ],
)
def test_unusable_baseline_is_named(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_baseline(path)


def test_differing_settings_are_listed(tmp_path: Path) -> None:
    baseline = read_baseline(save(tmp_path / "old.json", WOOD))
    new = replace(WOOD, good=False, resolution=None)
    assert differing_settings(report(new), baseline) == [
        "wood resolution: 256, now None",
        "wood good: True, now False",
    ]
    both = report(new, replace(TILE, map="other"))
    baseline = read_baseline(save(tmp_path / "old.json", WOOD, replace(TILE, good=False)))
    assert differing_settings(both, baseline)[0] == "tile map: diff_mahal@layer4, now other"
    baseline = read_baseline(save(tmp_path / "old.json", WOOD, TILE))
    both = report(new, replace(TILE, good=False))
    assert differing_settings(both, baseline)[1] == (
        "wood good: True, now False (and 1 more categories)"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"category": 1.5},
        {"ranges": 3},
        {"intervals": {"pixel_auroc": ["1", 0.85]}},
        {"pixel_auroc": 10**400},
        {"pixel_auroc": "0.8"},
        {"aupro": math.nan},
    ],
)
def test_a_baseline_with_values_of_the_wrong_kind_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """Each would end in a traceback once it is compared, or written into a report."""
    content = json.loads(json_document(full_report()))
    content["categories"][0] |= change
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="is no report of evaluate"):
        read_baseline(tmp_path / "x.json")
