"""Every format from given numbers: golden files, the JUnit schema, and names that mean harm."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from example_reports import BAR, COLOR, PLAIN, STAIN, WOOD, full_report, report, result

import anomaly_cli
from anomaly_cli.errors import ConfigError
from anomaly_cli.reports.junit import to_junit
from anomaly_cli.reports.machine import defect_types_csv, images_csv, json_document, to_csv
from anomaly_cli.reports.markdown import to_markdown
from anomaly_cli.reports.page import to_html
from anomaly_cli.reports.paper import TABLE_2
from anomaly_cli.reports.results import EvaluationReport, Example
from anomaly_cli.reports.write import FILES, file_names, parse_formats, write_reports

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "junit.xsd")
HOSTILE = [
    "<script>alert(1)</script>",
    "[good]",
    "quote\"and'apostrophe",
    "line\nbreak\ttab\x00\x1b[31m",
    "a" * 200,
    "Größe_漢字",
    "pipe|`code`*bold*_em_&amp;{{ 7*7 }}",
    "=HYPERLINK(1)",
    "right\u202eleft",
    "not-utf8\udce4",
    "https://evil.example/x.png",
]


# Golden files


@pytest.mark.parametrize(
    ("name", "render"),
    [("report.json", json_document), ("report.md", to_markdown), ("junit.xml", to_junit)],
)
def test_text_of_given_numbers_is_the_golden_file(
    name: str, render: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of a format is a change of this file, to be seen in review."""
    monkeypatch.setattr(anomaly_cli, "__version__", "0.0.0")
    assert render(full_report()) == (GOLDEN / name).read_text(encoding="utf-8")  # type: ignore[operator]


# JUnit


@pytest.mark.parametrize("gates", [(), (BAR,)])
def test_junit_is_valid_and_counts_what_it_holds(gates: tuple[object, ...]) -> None:
    text = to_junit(replace(full_report(), gates=gates))
    SCHEMA.validate(text)
    root = ET.fromstring(text)  # noqa: S314 - our own text
    assert int(root.get("tests", "")) == len(root.findall(".//testcase"))
    assert int(root.get("failures", "")) == len(root.findall(".//failure")) == len(gates)
    assert [suite.get("name") for suite in root] == ["wood", "pill"]


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


# HTML


class Page(HTMLParser):
    """What a browser would see: tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Called by the parser."""
        self.text += data + " "


def test_page_refers_to_nothing_outside_itself() -> None:
    text = to_html(full_report())
    page = Page(text)
    references = [v for name, v in page.attributes if name in {"src", "href", "data", "srcset"}]
    assert references
    assert all(value.startswith(("data:image/", "#")) for value in references)
    assert not re.search(r"@import|url\(|https?://", text)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert not [name for name, _value in page.attributes if name.startswith("on")]


def test_page_tells_numbers_intervals_bars_settings_and_the_paper() -> None:
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
    ):
        assert text in words, text
    assert "+0.030" in words  # wood: 0.8 against the paper's 0.77
    assert page.tags.count("svg") == 4
    assert {"0.77", "0.91"} <= set(words.split())


def test_links_of_the_page_lead_to_its_sections() -> None:
    page = Page(to_html(full_report()))
    ids = {value for name, value in page.attributes if name == "id"}
    links = {value[1:] for name, value in page.attributes if name == "href"}
    assert links == ids


def test_page_without_curves_or_pictures_or_the_papers_categories() -> None:
    """An evaluation of undefined metrics still has a page."""
    text = to_html(report(replace(WOOD, category="disc")))
    assert "No curves" in text
    assert "None of these categories is in MVTec AD" in text


# Names that mean harm


def hostile_report(name: str) -> EvaluationReport:
    """The name as a category, a defect type, a file and a setting."""
    row = replace(WOOD, category=name, map=name)
    miss = replace(STAIN, image=f"{name}/{name}.png", defect_type=name)
    return EvaluationReport(
        results=(
            result(
                row,
                defect_types=[replace(COLOR, defect_type=name)],
                images=[miss, PLAIN],
                misses=[Example(miss, b"image", b"truth", b"heat", b"mask")],
            ),
        ),
        settings={"data": name, "fail_under": [name]},
        gates=(BAR._replace(category=name),),
    )


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_name_adds_no_markup_to_the_page(name: str) -> None:
    """The page has the same tags and attributes as with a tame name, and shows the name."""
    tame, page = Page(to_html(hostile_report("tame"))), Page(to_html(hostile_report(name)))
    assert page.tags == tame.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in tame.attributes]
    shown = name.encode("unicode_escape").decode() if not name.isprintable() else name
    assert shown in page.text
    assert all(c.isprintable() or c == "\n" for c in page.text)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_name_is_text_in_junit(name: str) -> None:
    text = to_junit(hostile_report(name))
    SCHEMA.validate(text)
    (suite,) = ET.fromstring(text)  # noqa: S314
    shown = name.encode("unicode_escape").decode() if not name.isprintable() else name
    assert suite.get("name") == shown


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_name_leaves_the_tables_of_markdown_whole(name: str) -> None:
    """As many lines and cells as with a tame name, and no character of it is markup."""
    tame, text = to_markdown(hostile_report("tame")), to_markdown(hostile_report(name))
    assert [line.count("|") for line in text.splitlines()] == [
        line.count("|") for line in tame.splitlines()
    ]
    assert "<" not in text
    assert "[good]" not in text
    assert "`" not in text
    assert "://" not in text


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_name_comes_back_from_json_and_csv(name: str, tmp_path: Path) -> None:
    """Programs get the name itself; only a formula is disarmed, and what is not UTF-8 in CSV."""
    write_reports(tmp_path, hostile_report(name))
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (category,) = content["categories"]
    assert category["category"] == category["defect_types"][0]["defect_type"] == name
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    expected = f"'{name}" if name.startswith("=") else name
    assert row["category"] == expected.encode("utf-8", "backslashreplace").decode()


# Which files


def test_formats_choose_the_files(tmp_path: Path) -> None:
    write_reports(tmp_path, full_report(), parse_formats("html, json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert file_names(FILES) == [
        "report.json", "report.csv", "defect_types.csv", "images.csv", "report.md", "junit.xml",
        "report.html",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [("jsn", "did you mean json"), ("", "names nothing")])
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
