"""Every format from given numbers: golden files, the JUnit schema, a page that stands alone."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from example_reports import BAR, WOOD, Page, full_report, report, troubled_report

import anomaly_cli
from anomaly_cli.config.values import FORMATS, parse_formats
from anomaly_cli.errors import ConfigError, OutputError
from anomaly_cli.evaluation.reports.junit import to_junit
from anomaly_cli.evaluation.reports.machine import (
    defect_types_csv,
    images_csv,
    json_document,
    to_csv,
)
from anomaly_cli.evaluation.reports.markdown import to_markdown
from anomaly_cli.evaluation.reports.page import to_html
from anomaly_cli.evaluation.reports.published import TABLE_2
from anomaly_cli.evaluation.reports.write import FILES, file_names, write_reports
from anomaly_cli.evaluation.results import EvaluationReport

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "junit.xsd")


# Golden files


@pytest.mark.parametrize(
    ("name", "render"),
    [
        ("report.json", json_document),
        ("report.csv", to_csv),
        ("report.md", to_markdown),
        ("junit.xml", to_junit),
    ],
)
@pytest.mark.parametrize(("prefix", "build"), [("", full_report), ("troubled_", troubled_report)])
def test_text_of_given_numbers_is_the_golden_file(
    name: str, render: object, prefix: str, build: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of a format is a change of this file, to be seen in review."""
    monkeypatch.setattr(anomaly_cli, "__version__", "0.0.0")
    text = (GOLDEN / f"{prefix}{name}").read_text(encoding="utf-8")
    assert render(build()) == text  # type: ignore[operator]


# JUnit


@pytest.mark.parametrize("gates", [(), (BAR,)])
def test_junit_is_valid_and_counts_what_it_holds(gates: tuple[object, ...]) -> None:
    text = to_junit(replace(full_report(), gates=gates))
    SCHEMA.validate(text)
    root = ET.fromstring(text)  # noqa: S314 - our own text
    assert int(root.get("tests", "")) == len(root.findall(".//testcase"))
    assert int(root.get("failures", "")) == len(root.findall(".//failure")) == len(gates)
    assert [suite.get("name") for suite in root] == ["wood", "pill"]


def test_failed_category_is_an_error_in_a_suite_of_its_own() -> None:
    text = to_junit(troubled_report())
    SCHEMA.validate(text)
    root = ET.fromstring(text)  # noqa: S314
    assert [suite.get("name") for suite in root] == ["wood", "pill", "cable", "grid"]
    assert [suite.get("errors") for suite in root] == ["0", "0", "1", "1"]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "2")
    damaged, absent = root.findall(".//error")
    assert damaged.get("message") == "cannot read cable/ground_truth/bent/001_mask.png"
    assert (damaged.get("type"), absent.get("type")) == ("DataError", "CheckpointError")


def test_report_of_failures_alone_is_whole_in_every_format(tmp_path: Path) -> None:
    nothing = replace(troubled_report(), results=(), gates=())
    write_reports(tmp_path, nothing)
    SCHEMA.validate((tmp_path / "junit.xml").read_text())
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["categories"] == []
    assert [row["exit_code"] for row in content["failed"]] == [3, 4]
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "2 of 2 categories could not be evaluated" in text
        assert "No category was evaluated." in text


def test_bar_on_a_mean_is_a_suite_of_its_own() -> None:
    text = to_junit(replace(full_report(), gates=(BAR._replace(category="all"),)))
    SCHEMA.validate(text)
    root = ET.fromstring(text)  # noqa: S314
    assert [suite.get("name") for suite in root] == ["wood", "pill", "all"]


# CSV


def test_tables_per_defect_type_and_image_name_their_category() -> None:
    (types, images) = defect_types_csv(full_report()), images_csv(full_report())
    rows = list(csv.DictReader(types.splitlines()))
    assert [(row["category"], row["defect_type"]) for row in rows] == [
        ("wood", "color"),
        ("pill", "color"),
    ]
    first, second, *_ = csv.DictReader(images.splitlines())
    assert (first["image"], first["iou"]) == ("color/000.png", "0.25")
    assert (second["image"], second["iou"]) == ("good/000.png", "")


def test_csv_has_the_ends_of_each_interval() -> None:
    wood, pill = csv.DictReader(to_csv(full_report()).splitlines())
    assert (wood["pixel_auroc_low"], wood["pixel_auroc_high"]) == ("0.75", "0.85")
    assert pill["pixel_auroc_low"] == wood["recall_low"] == ""


def test_csv_has_the_ends_of_each_range_and_the_reason_of_a_failure() -> None:
    wood, pill, cable, grid = csv.DictReader(to_csv(troubled_report()).splitlines())
    assert (wood["best_iou_at_least"], wood["best_iou_at_most"]) == ("0.3", "0.305")
    assert pill["pixel_auroc_at_least"] == pill["pixel_auroc_at_most"] == "0.4"
    assert wood["error"] == pill["error"] == ""
    assert cable["error"] == "cannot read cable/ground_truth/bent/001_mask.png"
    assert (cable["category"], cable["pixel_auroc"], grid["kind"]) == ("cable", "", "texture")


# HTML


@pytest.mark.parametrize("build", [full_report, troubled_report])
def test_page_refers_to_nothing_outside_itself(build: Callable[[], EvaluationReport]) -> None:
    text = to_html(build())
    page = Page(text)
    references = [v for name, v in page.attributes if name in {"src", "href", "data", "srcset"}]
    assert references
    assert all(value.startswith(("data:image/", "#")) for value in references)
    assert not re.search(r"@import|url\(|https?://", text)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert not [name for name, _value in page.attributes if name.startswith("on")]


def test_page_has_numbers_intervals_bars_settings_and_the_paper() -> None:
    page = Page(to_html(full_report()))
    words = " ".join(page.text.split())
    for text in (
        "0.750 to 0.850",
        "1 of 2 bars are not met",
        "pixel_auroc >= 0.85",
        "40 of 168",
        "AnoGAN",
        "not comparable with each other",
        "seed",
        "ab" * 32,
        "cd" * 32,
        "image not at hand",
        "outline 1.125000, or halfway up from 0.250000",
    ):
        assert text in words, text
    assert "+0.030" in words  # wood: 0.8 against the paper's 0.77
    assert page.tags.count("svg") == 4
    assert {"0.77", "0.91"} <= set(words.split())


def test_page_has_ranges_and_failures() -> None:
    words = " ".join(Page(to_html(troubled_report())).text.split())
    for text in (
        "2 of 4 categories evaluated, 158 test images",
        "2 of 4 categories could not be evaluated",
        "cannot read cable/ground_truth/bent/001_mask.png",
        "runs/grid/model.safetensors does not exist",
        "0.79850 to 0.80150",
        "0.30000 to 0.30500",
        "at least 0.79850",
        "0.750 ± 0.00123",
        "A bar is met only if the low end of the range is",
        "Means are of the 2 categories that were evaluated",
    ):
        assert text in words, text
    exact = Page(to_html(full_report())).text
    assert "hold the exact values" not in exact
    assert "could not be evaluated" not in exact


@pytest.mark.parametrize("build", [full_report, troubled_report])
def test_links_of_the_page_lead_to_its_sections(build: Callable[[], EvaluationReport]) -> None:
    page = Page(to_html(build()))
    ids = {value for name, value in page.attributes if name == "id"}
    links = {value[1:] for name, value in page.attributes if name == "href"}
    assert links == ids


def test_page_without_curves_or_pictures_or_the_papers_categories() -> None:
    """An evaluation of undefined metrics still has a page."""
    text = to_html(report(replace(WOOD, category="disc")))
    assert "No curves" in text
    assert "None of these categories is in MVTec AD" in text


# Which files


def test_no_file_of_an_earlier_report_stands_beside_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the run is killed between two files."""
    write_reports(tmp_path, report())
    (tmp_path / "notes.txt").touch()
    replace_file, renamed = Path.replace, []

    def stop(path: Path, target: Path) -> None:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(target.name)
        replace_file(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_reports(tmp_path, report())
    assert {path.name for path in tmp_path.iterdir()} == {*renamed, "notes.txt"}


def test_an_earlier_report_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError, match=r"cannot remove .*report.json: Is a directory"):
        write_reports(tmp_path, report())


def test_formats_choose_the_files(tmp_path: Path) -> None:
    write_reports(tmp_path, full_report(), parse_formats("html, json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert tuple(FILES) == FORMATS
    assert file_names(FILES) == [
        "report.json", "report.csv", "defect_types.csv", "images.csv", "report.md", "junit.xml",
        "report.html",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"), [("jsn", "did you mean json"), ("", "needs at least one format")]
)
def test_unknown_format_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_formats(text)


# The paper


def test_table_of_the_paper_has_the_means_it_is_known_for() -> None:
    """AE-SSIM .869, AE-L2 .817, AnoGAN .743, CNN dictionary .781, the paper .861 (AUROC)."""
    rows = TABLE_2.values()
    means = [
        round(sum(column) / 15, 3) for column in zip(*(r.pixel_auroc for r in rows), strict=True)
    ]
    assert means == [0.869, 0.817, 0.743, 0.781, 0.861]
    means = [round(sum(column) / 15, 3) for column in zip(*(r.overlap for r in rows), strict=True)]
    assert means == [0.215, 0.327, 0.093, 0.129, 0.205]
