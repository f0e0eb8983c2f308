"""Names of categories, defects and files that mean harm, in every format."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from example_reports import BAR, COLOR, PLAIN, RANGES, STAIN, WOOD, Page, result

from anomaly_cli.errors import DataError
from anomaly_cli.evaluation.reports.junit import to_junit
from anomaly_cli.evaluation.reports.markdown import to_markdown
from anomaly_cli.evaluation.reports.page import to_html
from anomaly_cli.evaluation.reports.write import write_reports
from anomaly_cli.evaluation.results import EvaluationReport, Example, Failure

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


def hostile_report(name: str) -> EvaluationReport:
    """Use the name as a category, defect type, file and setting, and in the reason of a failure."""
    row = replace(WOOD, category=name, map=name, counting="streaming")
    miss = replace(STAIN, image=f"{name}/{name}.png", defect_type=name)
    return EvaluationReport(
        results=(
            result(
                row,
                ranges=RANGES,
                defect_types=[replace(COLOR, defect_type=name)],
                images=[miss, PLAIN],
                misses=[Example(miss, b"image", b"truth", b"heat", b"mask")],
            ),
        ),
        settings={"data": name, "fail_under": [name]},
        gates=(BAR._replace(category=name),),
        failures=(Failure(f"{name}!", "object", DataError(f"cannot read {name}/a.png")),),
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
    suite, failed = ET.fromstring(text)  # noqa: S314
    shown = name.encode("unicode_escape").decode() if not name.isprintable() else name
    assert suite.get("name") == shown
    assert failed.find(".//error").text == f"cannot read {shown}/a.png"  # type: ignore[union-attr]


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
    assert content["failed"][0]["reason"] == f"cannot read {name}/a.png"
    assert category["category"] == category["defect_types"][0]["defect_type"] == name
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as stream:
        row, failed = csv.DictReader(stream)
    assert (
        failed["error"] == f"cannot read {name}/a.png".encode("utf-8", "backslashreplace").decode()
    )
    expected = f"'{name}" if name.startswith("=") else name
    assert row["category"] == expected.encode("utf-8", "backslashreplace").decode()
