"""`explain` end to end: the figure, its numbers, and what a bad image costs."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, Trained, draw_hole, draw_part, run_cli
from PIL import Image

from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.files.images import write_png


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three normal parts and two with a hole."""
    folder = tmp_path / "images"
    for i in range(3):
        write_png(folder / f"good/{i}.png", draw_part(70 + i))
    for i in range(2):
        write_png(folder / f"hole/{i}.png", draw_hole(80 + i)[0])
    return folder


def explain(trained: Trained, images: Path, output: Path, *options: object) -> Outcome:
    return run_cli("explain", trained.model, images, "--output", output, *options)


def report(output: Path) -> dict[str, Any]:
    return json.loads((output / "explain.json").read_text())  # type: ignore[no-any-return]


def test_figure_and_numbers_are_written_and_nothing_else(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    outcome = explain(trained, images, tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "explain.json",
        "explain.png",
        "settings.toml",
    ]
    assert "written to" in outcome.stderr
    assert "written to" not in outcome.stdout


def test_report_names_the_map_and_the_model(trained: Trained, images: Path, tmp_path: Path) -> None:
    explain(trained, images, tmp_path / "out", "--latents", "top:2")
    written = report(tmp_path / "out")
    loaded = load_model(trained.model)
    assert written["schema_version"] == 1
    assert written["category"] == "disc"
    assert written["map"] == loaded.record.default_map
    assert written["model_sha256"] == loaded.sha256
    assert written["threshold_rule"] == str(loaded.record.default_threshold)
    low, high = written["colour_range"]
    # Four latents: the scale of one is twice as wide as that of their mean.
    assert written["latent_colour_range"] == pytest.approx([low, low + 2 * (high - low)])
    assert [row["image"] for row in written["images"]] == [
        "good/0.png", "good/1.png", "good/2.png", "hole/0.png", "hole/1.png",
    ]  # fmt: skip
    for row in written["images"]:
        assert row["is_anomalous"] == (row["score"] > written["threshold"])


def test_numbers_are_those_of_the_model(trained: Trained, images: Path, tmp_path: Path) -> None:
    """Deviations in standard deviations by hand; means over images; shares that add up to 1."""
    explain(trained, images, tmp_path / "out", "--latents", "all")
    written = report(tmp_path / "out")
    loaded = load_model(trained.model)
    parts = [draw_part(70 + i) for i in range(3)] + [draw_hole(80 + i)[0] for i in range(2)]
    posterior = loaded.network.encode(to_tensor(np.stack(parts)))
    mean, variance = loaded.record.statistics.attention.latent
    deviations = (posterior.mu - mean) / (variance + posterior.logvar.exp()).sqrt()
    for row, of_image in zip(written["images"], deviations.tolist(), strict=True):
        found = [latent["deviation"] for latent in row["latents"]]
        assert found == pytest.approx(of_image, rel=1e-3, abs=1e-4)
        assert [latent["latent"] for latent in row["latents"]] == [0, 1, 2, 3]
        assert sum(latent["share"] for latent in row["latents"]) == pytest.approx(1)
    for place, summary in enumerate(written["latents"]):
        of_latent = [row["latents"][place] for row in written["images"]]
        assert summary["mean_absolute_deviation"] == pytest.approx(
            np.mean([abs(latent["deviation"]) for latent in of_latent])
        )
        assert summary["mean_share"] == pytest.approx(
            np.mean([latent["share"] for latent in of_latent])
        )


def test_top_takes_the_latents_that_deviate_most_over_all_images(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    """Also over images that are not in the figure."""
    explain(trained, images, tmp_path / "all", "--latents", "all")
    explain(trained, images, tmp_path / "top", "--latents", "top:3", "--rows", 1)
    everything = {
        row["latent"]: row["mean_absolute_deviation"] for row in report(tmp_path / "all")["latents"]
    }
    expected = sorted(everything, key=lambda latent: -everything[latent])[:3]
    assert [row["latent"] for row in report(tmp_path / "top")["latents"]] == expected
    for row in report(tmp_path / "top")["images"]:
        assert [latent["latent"] for latent in row["latents"]] == expected


def test_latents_can_be_named_and_keep_their_order(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    explain(trained, images, tmp_path / "out", "--latents", "3,0")
    assert [row["latent"] for row in report(tmp_path / "out")["latents"]] == [3, 0]


def test_figure_grows_by_a_row_for_each_image_and_a_column_for_each_latent(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    """A square tile is 178 pixels with its frame; 23 of caption and 8 of gap come below it."""
    sizes = {}
    for rows, latents in ((1, "all"), (2, "all"), (2, "0,1,2")):
        out = tmp_path / f"{rows}{latents}"
        explain(trained, images, out, "--rows", rows, "--latents", latents)
        sizes[rows, latents] = Image.open(out / "explain.png").size
    assert sizes[2, "all"][1] - sizes[1, "all"][1] == 178 + 23 + 8
    assert sizes[2, "all"][0] - sizes[2, "0,1,2"][0] == 178 + 8


def test_a_figure_that_leaves_images_out_says_so(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    outcome = explain(trained, images, tmp_path / "out", "--rows", 2)
    assert "the figure has the first 2 of 5 images (--rows)" in outcome.stderr
    assert len(report(tmp_path / "out")["images"]) == 5
    assert "the figure has the first" not in explain(trained, images, tmp_path / "whole").stderr


def test_twice_gives_the_same_bytes(trained: Trained, images: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        explain(trained, images, tmp_path / name)
    for name in ("explain.png", "explain.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_json_is_the_report(trained: Trained, images: Path, tmp_path: Path) -> None:
    outcome = explain(trained, images, tmp_path / "out", "--json")
    assert json.loads(outcome.stdout) == report(tmp_path / "out")


def test_another_definition_is_drawn(trained: Trained, images: Path, tmp_path: Path) -> None:
    outcome = explain(
        trained, images, tmp_path / "out", "--attention", "layercam", "--target-layer", "layer3"
    )
    assert outcome.code == 0, outcome.stderr
    assert report(tmp_path / "out")["map"] == "layercam@layer3"


def test_a_bad_image_costs_no_other(trained: Trained, images: Path, tmp_path: Path) -> None:
    (images / "good/broken.png").write_bytes(b"no image")
    outcome = explain(trained, images, tmp_path / "out")
    assert outcome.code == 3
    assert "skipped: cannot read" in outcome.stderr
    assert "1 of 6 images could not be read" in outcome.stderr
    rows = {row["image"]: row for row in report(tmp_path / "out")["images"]}
    assert set(rows["good/broken.png"]) == {"image", "error"}
    assert len(rows) == 6
    assert (tmp_path / "out/explain.png").exists()


def test_no_readable_image_is_an_error(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    outcome = explain(trained, tmp_path / "broken.png", tmp_path / "out")
    assert outcome.code == 3
    assert "none of the 1 images could be read" in outcome.stderr
    assert not list((tmp_path / "out").iterdir())


def test_bad_input_is_one_line_with_its_code(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    cases = [
        (["--latents", "99"], 2, "numbers from 0 to 3"),
        (["--latents", "top:0"], 2, "top:K with K from 1"),
        (["--rows", "0"], 2, "--rows must be at least 1"),
        (["--attention", "official"], 2, "official@layer4 has no map for each latent"),
        (["--output", trained.runs], 5, "already holds something"),
    ]
    for options, code, message in cases:
        outcome = explain(trained, images, tmp_path / "out", *options)
        assert outcome.code == code, options
        assert message in outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert outcome.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_map_without_latents_is_refused_before_it_is_calibrated(
    trained: Trained, tmp_path: Path
) -> None:
    model = shutil.copy(trained.model, tmp_path)  # without the calibrations of other maps beside it
    image = trained.data / "disc/test/hole/000.png"
    for command in (["explain"], ["localize", "--latents", "all"]):
        outcome = run_cli(*command, model, image, "--attention", "official")
        assert outcome.code == 2
        assert "has no map for each latent" in outcome.stderr
        assert "calibrating" not in outcome.stderr
    assert not (tmp_path / "calibrations.safetensors").exists()


def test_a_name_that_is_not_utf_8_costs_no_result(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    shutil.copy(images / "good/0.png", os.fsencode(images) + b"/caf\xe9.png")
    outcome = explain(trained, images, tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    names = [row["image"] for row in report(tmp_path / "out")["images"]]
    assert "caf\udce9.png" in names
    assert (tmp_path / "out/explain.png").is_file()
