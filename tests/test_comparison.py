"""Two reports on the same images are compared draw by draw, and nothing else is compared at all."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Trained, make_once, run_cli
from example_reports import Page

from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.evaluation.comparison import (
    DRAWS_FILE,
    Difference,
    TypeDifference,
    Verdicts,
    compare_reports,
)
from anomaly_cli.evaluation.reports.comparison import sentences, to_html, to_json, to_markdown
from anomaly_cli.metrics.bootstrap import Interval


@pytest.fixture(scope="session")
def reports(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluate two maps of one model, one of them with two seeds of the draws."""

    def make(folder: Path) -> None:
        for name, options in {
            "attention": (),
            "error": ("--map", "reconstruction"),
            "other-seed": ("--seed", 1),
            "no-draws": ("--replicates", 0),
        }.items():
            outcome = run_cli(
                "evaluate", "--data", trained.data, "--runs", trained.runs, "--replicates", 200,
                "--output", folder / name, "--format", "json", *options,
            )  # fmt: skip
            assert outcome.code == 0, outcome.stderr

    return make_once(tmp_path_factory, "comparison", make)


def row_of(folder: Path) -> dict[str, Any]:
    """Read the one category of a report."""
    row: dict[str, Any] = json.loads((folder / "report.json").read_text())["categories"][0]
    return row


def test_differences_are_those_of_each_draw(reports: Path) -> None:
    first, second = reports / "attention", reports / "error"
    (category,) = compare_reports(first, second).categories
    assert category.category == "disc"
    draws = [np.load(folder / DRAWS_FILE) for folder in (first, second)]
    for row in category.metrics:
        values = [row_of(folder)[row.metric] for folder in (first, second)]
        assert [row.first, row.second] == [math.nan if v is None else v for v in values]
        name = f"disc\n{row.metric}"
        expected = np.nanquantile(
            draws[1][name].astype(np.float64) - draws[0][name], [0.025, 0.975]
        )
        np.testing.assert_allclose(row.interval, expected, atol=1e-6)
        assert row.interval.low <= row.difference + 0.2


def test_a_report_does_not_differ_from_itself(reports: Path) -> None:
    comparison = compare_reports(reports / "error", reports / "error/report.json")
    assert comparison.note == ""
    assert comparison.means is None
    for row in comparison.categories[0].metrics:
        assert row.difference == 0
        assert row.interval == (0, 0)
        assert row.better == ""
    assert sentences(Verdicts([], [], [], [])) == ["Both call the same images anomalous."]


@pytest.mark.parametrize(
    ("metric", "interval", "better"),
    [
        ("pixel_auroc", (0.01, 0.02), "second"),
        ("pixel_auroc", (-0.02, -0.01), "first"),
        ("pixel_auroc", (-0.02, 0.01), ""),
        ("pixel_auroc", (math.nan, math.nan), ""),
        ("image_false_positive_rate", (0.01, 0.02), "first"),
        ("image_false_positive_rate", (-0.02, -0.01), "second"),
    ],
)
def test_the_better_one_is_named_where_zero_is_left_out(
    metric: str, interval: tuple[float, float], better: str
) -> None:
    assert Difference(metric, 0.5, 0.5, Interval(*interval)).better == better


@pytest.mark.parametrize(
    ("other", "reason"),
    [("other-seed", "drew other images"), ("no-draws", f"no {DRAWS_FILE} beside it")],
)
def test_draws_that_do_not_belong_together_give_no_interval(
    reports: Path, other: str, reason: str
) -> None:
    comparison = compare_reports(reports / "attention", reports / other)
    assert reason in comparison.note
    assert all(math.isnan(row.interval.low) for row in comparison.categories[0].metrics)
    assert reason in to_markdown(comparison)
    assert reason in to_html(comparison)


def change(folder: Path, report: Path, **values: object) -> Path:
    """Copy a report with other values in its category."""
    shutil.copytree(report, folder)
    content = json.loads((folder / "report.json").read_text())
    content["categories"][0] |= values
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def test_other_test_images_are_refused(reports: Path, tmp_path: Path) -> None:
    other = change(tmp_path / "other", reports / "error", data_sha256="0" * 64)
    with pytest.raises(DataError, match=r"the test images of disc in .* differ"):
        compare_reports(reports / "error", other)
    outcome = run_cli("evaluate", "--compare", reports / "error", other, "--output", tmp_path / "o")
    assert outcome.code == 3
    assert outcome.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_reports_without_a_shared_category_are_refused(reports: Path, tmp_path: Path) -> None:
    other = change(tmp_path / "other", reports / "error", category="brick")
    with pytest.raises(DataError, match="share no category"):
        compare_reports(reports / "error", other)


@pytest.mark.parametrize("content", [b"", b"PK no archive", None])
def test_damaged_draws_are_refused(reports: Path, tmp_path: Path, content: bytes | None) -> None:
    other = change(tmp_path / "other", reports / "error")
    path = other / DRAWS_FILE
    if content is None:  # unpacks to far more than draws take
        np.savez_compressed(path, seed=np.zeros(10_000_000))
    else:
        path.write_bytes(content)
    with pytest.raises(
        DataError, match=rf"cannot read .*{DRAWS_FILE}: .*; evaluate writes it anew"
    ):
        compare_reports(reports / "error", other)


def test_means_are_over_the_shared_categories(reports: Path, tmp_path: Path) -> None:
    paths = []
    for name in ("attention", "error"):
        folder = Path(shutil.copytree(reports / name, tmp_path / name))
        content = json.loads((folder / "report.json").read_text())
        row = content["categories"][0]
        more = ["brick"] if name == "attention" else ["brick", "moss"]
        content["categories"] += [row | {"category": other} for other in more]
        (folder / "report.json").write_text(json.dumps(content))
        draws = dict(np.load(folder / DRAWS_FILE))
        own = {k.replace("disc", n): v for n in more for k, v in draws.items() if k != "seed"}
        np.savez(folder / DRAWS_FILE, **draws, **own)
        paths.append(folder)
    comparison = compare_reports(*paths)
    assert comparison.missing == ["moss"]
    assert comparison.means is not None
    of_disc = {row.metric: row for row in comparison.categories[0].metrics}
    for row in comparison.means.metrics:
        np.testing.assert_allclose(row.first, of_disc[row.metric].first)
        np.testing.assert_allclose(row.interval, of_disc[row.metric].interval)
    assert "Only one of the reports has moss." in to_markdown(comparison)


def test_defect_types_and_verdicts_are_told(reports: Path, tmp_path: Path) -> None:
    first = reports / "error"
    table = [dict(row) for row in row_of(first)["image_table"]]
    for row in table:
        row["is_called"] = not row["is_called"]
    second = change(tmp_path / "second", first, image_table=table)
    (category,) = compare_reports(first, second).categories
    assert [row.defect_type for row in category.defect_types] == ["hole"]
    assert isinstance(category.defect_types[0], TypeDifference)
    assert category.verdicts is not None
    told = sum(map(len, category.verdicts))
    assert told == len(table)
    called = [row["image"] for row in table if not row["is_called"]]
    assert {*category.verdicts.found_by_first, *category.verdicts.alarms_of_first} == {*called}


def test_without_thresholds_nothing_is_said_of_verdicts(reports: Path, tmp_path: Path) -> None:
    first = reports / "error"
    table = [row | {"is_called": None} for row in row_of(first)["image_table"]]
    second = change(tmp_path / "second", first, image_table=table)
    comparison = compare_reports(first, second)
    assert comparison.categories[0].verdicts is None
    assert "Both call the same images" not in to_markdown(comparison)


def test_the_command_writes_three_files_and_prints_a_table(reports: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    outcome = run_cli(
        "evaluate", "--compare", reports / "attention", reports / "error", "--output", output
    )
    assert outcome.code == 0, outcome.stderr
    assert "second minus first" in outcome.stdout
    assert "pixel AUROC" in outcome.stdout
    names = {path.name for path in output.iterdir()}
    assert names == {"comparison.html", "comparison.md", "comparison.json", "settings.toml"}
    document = json.loads((output / "comparison.json").read_text())
    assert document == to_json(compare_reports(reports / "attention", reports / "error"))
    page = Page((output / "comparison.html").read_text())
    assert not {name for name, _value in page.attributes} & {"src", "href"}
    assert "difference" in page.text
    again = run_cli("evaluate", "--config", output / "settings.toml", "--overwrite", "--json")
    assert json.loads(again.stdout) == document


def test_a_hostile_name_adds_no_markup(reports: Path, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>|`*"
    other = change(tmp_path / "other", reports / "error", category=name)
    comparison = compare_reports(other, other)
    assert "<img" not in to_html(comparison)
    assert "<img" not in to_markdown(comparison)


def test_models_are_not_compared_with_reports() -> None:
    with pytest.raises(ConfigError, match="--compare reads two reports"):
        EvaluateConfig(compare=(Path("a"), Path("b")), maps=Path("maps"))
