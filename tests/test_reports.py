"""Reports: undefined is null and left out of means, and a file is whole or absent."""

import csv
import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from example_reports import PILL, TILE, WOOD, report

import anomaly_cli
from anomaly_cli.errors import OutputError
from anomaly_cli.evaluation.metric_names import KEYS
from anomaly_cli.evaluation.reports.machine import to_csv, to_json
from anomaly_cli.evaluation.reports.write import write_reports
from anomaly_cli.evaluation.results import CategoryMetrics

# Means


def test_means_are_those_of_textures_objects_and_all_categories() -> None:
    """(0.8 + 0.6) / 2, 0.4, and (0.8 + 0.6 + 0.4) / 3: not the mean of the two groups."""
    means = report(WOOD, PILL, TILE).means()
    assert {name: group["pixel_auroc"] for name, group in means.items()} == pytest.approx(
        {"textures": 0.7, "objects": 0.4, "all": 0.6}
    )


def test_undefined_values_are_left_out_of_means_and_alone_give_undefined() -> None:
    means = report(WOOD, PILL, TILE).means()
    assert means["textures"]["aupro"] == pytest.approx(0.7)
    assert math.isnan(means["objects"]["aupro"])
    assert means["all"]["aupro"] == pytest.approx(0.7)


def test_group_without_categories_has_no_mean() -> None:
    assert list(report(WOOD).means()) == ["textures", "all"]
    assert list(report(PILL).means()) == ["objects", "all"]
    assert report().means() == {}


def test_means_are_of_every_metric_but_not_of_thresholds_or_counts() -> None:
    means = report(WOOD).means()["all"]
    assert means == pytest.approx({name: getattr(WOOD, name) for name in KEYS})
    assert not {"threshold", "best_iou_threshold", "images", "resolution"} & means.keys()


# JSON


def test_json_has_a_schema_version_and_the_version_of_the_tool() -> None:
    content = to_json(report(WOOD))
    assert content["schema_version"] == 1
    assert content["anomaly_cli"] == anomaly_cli.__version__
    assert {"schema_version", "anomaly_cli", "categories", "means"} <= set(content)


def test_json_holds_every_field_of_every_category_in_order() -> None:
    content = to_json(report(WOOD, PILL))
    assert [row["category"] for row in content["categories"]] == ["wood", "pill"]
    expected = {field.name: getattr(WOOD, field.name) for field in fields(WOOD)}
    assert list(content["categories"][0])[: len(expected)] == list(expected)
    assert content["categories"][0].items() >= expected.items()


@pytest.mark.parametrize("undefined", [math.nan, math.inf, -math.inf])
def test_undefined_is_null_in_json(undefined: float) -> None:
    row = replace(WOOD, aupro=undefined, best_iou_threshold=undefined)
    content = to_json(report(row))
    assert content["categories"][0]["aupro"] is None
    assert content["categories"][0]["best_iou_threshold"] is None
    assert content["categories"][0]["pixel_auroc"] == 0.8
    assert content["means"]["all"]["aupro"] is None


# CSV


def test_csv_has_one_header_and_one_line_per_category() -> None:
    lines = to_csv(report(WOOD, PILL)).splitlines()
    names = [field.name for field in fields(CategoryMetrics)]
    assert lines[0].split(",")[: len(names)] == names
    assert [line.split(",")[0] for line in lines] == ["category", "wood", "pill"]
    assert to_csv(report()).splitlines() == lines[:1]


def test_csv_gives_back_the_numbers_and_leaves_undefined_cells_empty() -> None:
    precise = replace(TILE, pixel_auroc=0.1 + 0.2, category='a,"b"')
    (row,) = csv.DictReader(to_csv(report(precise)).splitlines())
    assert float(row["pixel_auroc"]) == 0.1 + 0.2
    assert row["aupro"] == ""
    assert row["category"] == 'a,"b"'
    assert row["threshold_rule"] == "image-fpr=0.05"


# Files


def test_files_hold_strict_json_and_the_same_csv(tmp_path: Path) -> None:
    rows = report(replace(WOOD, category="Größe"), TILE)
    write_reports(tmp_path / "results", rows)
    text = (tmp_path / "results" / "report.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == to_json(rows)
    assert "Größe" in text
    assert text.endswith("}\n")
    assert (tmp_path / "results" / "report.csv").read_bytes() == to_csv(rows).encode()
    assert not list((tmp_path / "results").glob("*.partial"))


def fail(_path: Path, _content: bytes) -> int:
    raise OSError(28, "No space left on device")


def test_report_that_cannot_be_written_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the new report is begun."""
    write_reports(tmp_path, report(WOOD))
    before = (tmp_path / "report.json").read_text()
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match=r"cannot write .*report\.json: No space left"):
        write_reports(tmp_path, report(PILL))
    assert (tmp_path / "report.json").read_text() == before


def test_report_replaces_an_older_one(tmp_path: Path) -> None:
    write_reports(tmp_path, report(WOOD))
    write_reports(tmp_path, report(PILL))
    content = json.loads((tmp_path / "report.json").read_text())
    assert [row["category"] for row in content["categories"]] == ["pill"]
