"""`localize` end to end: the files it writes, what it says, and what a bad image costs."""

import errno
import io
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, Trained, draw_hole, draw_part, run_cli, threshold_of
from PIL import Image

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.detector import mapper
from anomaly_cli.detector.masks import anomaly_mask
from anomaly_cli.detector.prediction import Prediction
from anomaly_cli.errors import OutputError
from anomaly_cli.files.images import write_png
from anomaly_cli.files.manifest import Manifest, open_manifest, read_manifest
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image, resize_map
from anomaly_cli.pictures.colours import PALETTE, heat_levels, overlay
from anomaly_cli.training.calibrate import open_detector
from models.config import Attention


def manifest(output: Path) -> list[dict[str, Any]]:
    """All lines of a manifest."""
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two folders with images of the same name and of different sizes, one with a hole."""
    folder = tmp_path / "images"
    write_png(folder / "left/part.png", resize_image(draw_part(5), 80, 100))
    write_png(folder / "right/part.png", draw_hole(6)[0])
    return folder


def test_outputs_mirror_the_input_at_its_size(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    outcome = run_cli("localize", trained.model, images, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    found = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")
    )
    assert found == [
        "heatmaps/left/part.png", "heatmaps/right/part.png",
        "manifest.jsonl",
        "maps/left/part.tiff", "maps/right/part.tiff",
        "masks/left/part.png", "masks/right/part.png",
        "overlays/left/part.png", "overlays/right/part.png",
        "settings.toml",
    ]  # fmt: skip
    for record, (height, width) in zip(
        manifest(tmp_path / "out"), [(80, 100), (64, 64)], strict=True
    ):
        assert (record["height"], record["width"]) == (height, width)
        for place in record["outputs"].values():
            assert Image.open(tmp_path / "out" / place).size == (width, height)


def test_files_and_manifest_agree(trained: Trained, images: Path, tmp_path: Path) -> None:
    """The mask is that of threshold and outline, its share is listed, and colours are right."""
    out = tmp_path / "out"
    run_cli("localize", trained.model, images, "--output", out)
    for record in manifest(out):
        outputs = {kind: out / place for kind, place in record["outputs"].items()}
        anomaly_map = np.asarray(Image.open(outputs["map"]))
        assert anomaly_map.dtype == np.float32
        mask = np.asarray(Image.open(outputs["mask"]))
        threshold = threshold_of(record)
        np.testing.assert_array_equal(mask > 0, anomaly_mask(anomaly_map, threshold))
        assert record["anomalous_share"] == pytest.approx((mask > 0).mean())
        assert record["is_anomalous"] == (record["score"] > record["threshold"])
        low, high = record["colour_range"]
        assert (low + high) / 2 == pytest.approx(record["threshold"], rel=1e-5)
        level = np.clip(np.rint((anomaly_map - low) / (high - low) * 255), 0, 255).astype(int)
        heat = read_image(outputs["heatmap"])
        off = np.abs(heat.astype(int) - PALETTE[level].astype(int)).max(axis=2)
        assert (off == 0).mean() > 0.99  # a level may round the other way in float32
        assert record["model_sha256"]
        assert record["schema_version"] == 1


def test_the_hole_has_a_higher_score_than_the_good_part(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    """The residual of the tiny model is larger on the hole than on the good part."""
    out = tmp_path / "out"
    run_cli("localize", trained.model, images, "--output", out, "--map", "reconstruction")
    good, hole = manifest(out)
    assert hole["score"] > 1.1 * good["score"]
    hottest = np.unravel_index(
        np.asarray(Image.open(out / "maps/right/part.tiff")).argmax(), (64, 64)
    )
    assert draw_hole(6)[1][hottest]


def test_twice_gives_the_same_bytes(trained: Trained, images: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_cli("localize", trained.model, images, "--output", tmp_path / name)
    for path in (tmp_path / "a").rglob("*.*"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.name == "settings.toml" or path.read_bytes() == other.read_bytes()


def test_batch_size_changes_no_map(trained: Trained, images: Path, tmp_path: Path) -> None:
    for name, size in (("a", 1), ("b", 16)):
        run_cli(
            "localize", trained.model, images, "--output", tmp_path / name, "--batch-size", size
        )
    for path in (tmp_path / "a").rglob("*.tiff"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        first, second = (np.asarray(Image.open(p)) for p in (path, other))
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6 * np.abs(first).max())


def test_mvtec_layout_is_what_evaluate_reads(trained: Trained, tmp_path: Path) -> None:
    """Maps saved as MVTec's script wants them give the metrics of the model at original size."""
    out, test = tmp_path / "out", trained.data / "disc/test"
    run_cli("localize", trained.model, test, "--output", out, "--layout", "mvtec")
    names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.tiff"))
    assert names[0] == "disc/test/good/000.tiff"
    assert len(names) == 6
    common = ("--data", trained.data, "--format", "json", "--replicates", 0)
    run_cli("evaluate", "--maps", out, "--output", tmp_path / "saved", *common)
    run_cli(
        "evaluate", "--model", trained.model, "--output", tmp_path / "direct",
        "--resolution", "original", *common,
    )  # fmt: skip
    saved, direct = (
        json.loads((tmp_path / name / "report.json").read_text())["categories"][0]
        for name in ("saved", "direct")
    )
    for metric in ("pixel_auroc", "best_iou", "aupro", "image_auroc"):
        assert saved[metric] == pytest.approx(direct[metric], abs=1e-9), metric


def test_mvtec_layout_refuses_images_from_elsewhere(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    outcome = run_cli(
        "localize", trained.model, images, "--output", tmp_path / "out", "--layout", "mvtec"
    )
    assert outcome.code == 3
    assert "does not lie in <category>/test/<defect type>/" in outcome.stderr


def test_a_bad_image_costs_no_other(trained: Trained, images: Path, tmp_path: Path) -> None:
    """It is reported, skipped, in the manifest with its error, and the exit code is 3."""
    content = (images / "right/part.png").read_bytes()
    (images / "right/broken.png").write_bytes(content[: len(content) // 2])
    outcome = run_cli("localize", trained.model, images, "--output", tmp_path / "out")
    assert outcome.code == 3
    assert "skipped: cannot read" in outcome.stderr
    assert "broken.png" in outcome.stderr
    assert "1 of 3 images could not be read" in outcome.stderr
    records = {record["image"]: record for record in manifest(tmp_path / "out")}
    assert "error" in records["right/broken.png"]
    assert len(list((tmp_path / "out/masks").rglob("*.png"))) == 2
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_same_stem_in_one_folder_does_not_collide(trained: Trained, tmp_path: Path) -> None:
    write_png(tmp_path / "in/x.png", draw_part(0))
    Image.fromarray(draw_hole(1)[0]).save(tmp_path / "in/x.jpg")
    run_cli("localize", trained.model, tmp_path / "in", "--output", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out/masks").iterdir())
    assert names == ["x.jpg.png", "x.png.png"]


def test_outputs_can_be_chosen(trained: Trained, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_cli(
        "localize",
        trained.model,
        images,
        "--output",
        out,
        "--no-maps",
        "--no-heatmaps",
        "--no-overlays",
    )
    assert {path.name for path in out.iterdir()} == {"masks", "manifest.jsonl", "settings.toml"}


def test_threshold_overrides(trained: Trained, images: Path, tmp_path: Path) -> None:
    """At minus one every pixel is anomalous; at a million none is; a rule is recomputed."""
    for threshold, share in (("-1", 1.0), ("1e6", 0.0)):
        out = tmp_path / threshold
        run_cli("localize", trained.model, images, "--output", out, f"--threshold={threshold}")
        assert [record["anomalous_share"] for record in manifest(out)] == [share, share]
        assert manifest(out)[0]["threshold_rule"] == "given"
    run_cli(
        "localize",
        trained.model,
        images,
        "--output",
        tmp_path / "rule",
        "--threshold",
        "pixel-fpr=0.2",
    )
    assert manifest(tmp_path / "rule")[0]["threshold_rule"] == "pixel-fpr=0.2"


@pytest.mark.parametrize("outline", ["threshold", "0.5"])
def test_outline_can_be_chosen(
    trained: Trained, images: Path, tmp_path: Path, outline: str
) -> None:
    """At the threshold a mask is what exceeds it; elsewhere it has at least as many regions."""
    run_cli(
        "localize", trained.model, images, "--output", tmp_path / "out", "--threshold", 1.0,
        "--map", "reconstruction", "--scores", "global", "--outline", outline,
    )  # fmt: skip
    masks = []
    for record in manifest(tmp_path / "out"):
        anomaly_map, mask = (
            np.asarray(Image.open(tmp_path / "out" / record["outputs"][kind]))
            for kind in ("map", "mask")
        )
        is_above = anomaly_map > 1.0
        assert record["outline"] == (None if outline == "threshold" else 0.5)
        assert mask[is_above].all()
        assert ((mask > 0) & (anomaly_map <= 0.5)).sum() == 0
        masks.append(((mask > 0) & ~is_above).any())
    assert any(masks) == (outline == "0.5")


def test_unknown_outline_is_a_usage_error(trained: Trained, images: Path, tmp_path: Path) -> None:
    outcome = run_cli(
        "localize", trained.model, images, "--output", tmp_path / "out", "--outline", "half"
    )
    assert outcome.code == 2
    assert "--outline must be a number, or threshold, got half" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_global_scores_move_map_and_threshold_together(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    """Masks stay the same; map and threshold are in standard deviations of normal pixels."""
    for scores in ("raw", "global"):
        run_cli(
            "localize", trained.model, images, "--output", tmp_path / scores, "--scores", scores
        )
    for raw, scaled in zip(manifest(tmp_path / "raw"), manifest(tmp_path / "global"), strict=True):
        assert raw["threshold"] != scaled["threshold"]
        assert raw["is_anomalous"] == scaled["is_anomalous"]
        assert raw["anomalous_share"] == pytest.approx(scaled["anomalous_share"], abs=0.01)
        assert (raw["scores"], scaled["scores"]) == ("raw", "global")
    outcome = run_cli(
        "localize", trained.model, images, "--output", tmp_path / "x", "--scores", "position"
    )
    assert outcome.code == 4  # one image was held out
    assert "needs 3 held-out normal images" in outcome.stderr


@pytest.mark.parametrize("layer", ["layer1", "layer2", "layer3", "layer4"])
@pytest.mark.parametrize("attention", ["gradcam", "diff_mahal"])
def test_every_definition_and_layer(
    trained: Trained, images: Path, tmp_path: Path, layer: str, attention: str
) -> None:
    out = tmp_path / "out"
    run_cli(
        "localize", trained.model, images, "--output", out, "--attention", attention,
        "--target-layer", layer, "--no-heatmaps",
    )  # fmt: skip
    assert {record["map"] for record in manifest(out)} == {f"{attention}@{layer}"}
    assert np.asarray(Image.open(out / "maps/right/part.tiff")).max() > 0


def test_output_inside_the_input_is_not_localized_again(trained: Trained, images: Path) -> None:
    out = images / "results"
    assert run_cli("localize", trained.model, images, "--output", out).code == 0
    again = run_cli("localize", trained.model, images, "--output", out)
    assert again.code == 5
    assert "already holds something" in again.stderr
    assert run_cli("localize", trained.model, images, "--output", out, "--overwrite").code == 0
    assert len(manifest(out)) == 2


def test_foreign_files_survive_overwrite(trained: Trained, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    (out / "masks/mine.txt").write_text("keep me")
    run_cli("localize", trained.model, images, "--output", out, "--overwrite")
    assert (out / "masks/mine.txt").read_text() == "keep me"


def test_globs_and_single_files(trained: Trained, images: Path, tmp_path: Path) -> None:
    run_cli("localize", trained.model, images / "*/part.png", "--output", tmp_path / "glob")
    assert [r["image"] for r in manifest(tmp_path / "glob")] == ["left/part.png", "right/part.png"]
    run_cli("localize", trained.model, images / "left/part.png", "--output", tmp_path / "one")
    assert [record["image"] for record in manifest(tmp_path / "one")] == ["part.png"]


@pytest.mark.parametrize("complete", [0, 1])
def test_manifest_of_an_interrupted_run_lists_what_is_complete(
    trained: Trained,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    complete: int,
) -> None:
    save = Prediction.save

    def interrupted(prediction: Prediction, *given: Any, **named: Any) -> dict[str, str]:
        if prediction.position >= complete:
            raise KeyboardInterrupt
        return save(prediction, *given, **named)

    monkeypatch.setattr(Prediction, "save", interrupted)
    outcome = run_cli("localize", trained.model, images, "--output", tmp_path / "out")
    assert outcome.code == 130
    names = ["left/part.png", "right/part.png"]
    assert [record["image"] for record in manifest(tmp_path / "out")] == names[:complete]


def test_latents_are_drawn_and_listed(trained: Trained, images: Path, tmp_path: Path) -> None:
    """An overlay for each chosen latent, a contact sheet, and the numbers by deviation."""
    out = tmp_path / "out"
    outcome = run_cli("localize", trained.model, images, "--output", out, "--latents", "all")
    assert outcome.code == 0, outcome.stderr
    for record in manifest(out):
        assert record["outputs"]["sheet"] == f"sheets/{record['image']}"
        assert Image.open(out / record["outputs"]["sheet"]).height < 700
        assert {latent["latent"] for latent in record["latents"]} == {0, 1, 2, 3}
        deviations = [abs(latent["deviation"]) for latent in record["latents"]]
        assert deviations == sorted(deviations, reverse=True)
        assert sum(latent["share"] for latent in record["latents"]) == pytest.approx(1)
        for latent in record["latents"]:
            assert set(latent) == {
                *("latent", "mean", "deviation", "share", "share_at_peak", "kind", "overlay")
            }
            number = f"latent_{latent['latent']:02}.png"
            assert latent["overlay"] == f"latents/{record['image'][:-4]}/{number}"
            size = Image.open(out / latent["overlay"]).size
            assert size == (record["width"], record["height"])
        low, high = record["colour_range"]
        assert record["latent_colour_range"] == pytest.approx([low, low + 2 * (high - low)])


def test_overlay_of_a_latent_is_its_map_on_the_scale_of_the_model(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    """Rendered here from the maps that the model computes for the image alone."""
    out, path = tmp_path / "out", images / "right/part.png"
    run_cli(
        "localize", trained.model, path, "--output", out, "--latents", "all",
        "--attention", "gradcam",
    )  # fmt: skip
    (record,) = manifest(out)
    detector = open_detector(trained.model, MapConfig(attention=Attention.GRADCAM))
    image = read_image(path)
    latents = detector.predict(image, with_latents=True).latents
    assert latents is not None
    coloured = 0
    for latent in record["latents"]:
        latent_map = resize_map(latents.maps[latent["latent"]], 64, 64)
        levels = heat_levels(latent_map, tuple(record["latent_colour_range"]))
        found = read_image(out / latent["overlay"])
        assert np.abs(found.astype(int) - overlay(image, levels)).max() <= 1
        coloured += int((found != image).any(axis=2).sum())
    assert coloured > 100


def test_top_latents_are_chosen_for_each_image(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    for name, latents in (("all", "all"), ("top", "top:2")):
        run_cli(
            "localize", trained.model, images, "--output", tmp_path / name, "--latents", latents
        )
    for all_of_them, top in zip(
        manifest(tmp_path / "all"), manifest(tmp_path / "top"), strict=True
    ):
        assert top["latents"] == all_of_them["latents"][:2]


def test_latents_leave_everything_else_as_it_is(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    """Files have the same bytes, and nothing about latents is written where nobody asked."""
    for name, options in (("plain", ()), ("latents", ("--latents", "top:1"))):
        run_cli("localize", trained.model, images, "--output", tmp_path / name, *options)
    for path in (tmp_path / "plain").rglob("*.*"):
        if path.name not in {"manifest.jsonl", "settings.toml"}:
            other = tmp_path / "latents" / path.relative_to(tmp_path / "plain")
            assert path.read_bytes() == other.read_bytes()
    for plain, with_latents in zip(
        manifest(tmp_path / "plain"), manifest(tmp_path / "latents"), strict=True
    ):
        assert set(with_latents) - set(plain) == {*("latents", "latent_colour_range", "peak")}
        with_latents["outputs"].pop("sheet")
        assert {name: with_latents[name] for name in plain} == plain


def test_latents_survive_a_bad_image_and_its_neighbours_keep_theirs(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    (images / "left/a.png").write_bytes(b"no image")
    for name, folder in (("bad", images), ("good", images / "right")):
        outcome = run_cli(
            "localize", trained.model, folder, "--output", tmp_path / name, "--latents", "all"
        )
        assert outcome.code == (3 if name == "bad" else 0)
    (alone,) = manifest(tmp_path / "good")
    broken, _, beside = manifest(tmp_path / "bad")
    assert "latents" not in broken
    assert [latent["deviation"] for latent in beside["latents"]] == pytest.approx(
        [latent["deviation"] for latent in alone["latents"]], rel=1e-3
    )


def test_json_is_the_manifest(trained: Trained, images: Path, tmp_path: Path) -> None:
    outcome = run_cli("localize", trained.model, images, "--output", tmp_path / "out", "--json")
    assert json.loads(outcome.stdout) == manifest(tmp_path / "out")


def test_bad_input_is_one_line_with_its_code(
    trained: Trained, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where `results` would be
    text = tmp_path / "model.safetensors"
    text.write_text("I am a text file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    cases = [
        ([text, images], 4, "is not a model file"),
        ([tmp_path / "none", images], 4, "does not exist"),
        ([trained.model, tmp_path / "none.png"], 3, "does not exist"),
        ([trained.model, tmp_path / "empty"], 3, "no images under"),
        ([trained.model, text], 3, "is not an image"),
        ([trained.model, images, "--output", tmp_path / "file/out"], 5, "cannot write"),
        ([trained.model, images, "--threshold", "high"], 2, "got high"),
        ([trained.model, images, "--batch-size", "0"], 2, "--batch-size must be at least 1"),
        ([trained.model, images, "--device", "cuda:99"], 6, "is not there"),
        ([trained.model, images, "--latents", "top:0"], 2, "top:K with K from 1"),
        ([trained.model, images, "--latents", "99"], 2, "numbers from 0 to 3"),
        ([trained.model, images, "--latents", "x"], 2, "use all, top:K"),
        ([trained.model, images, "--latents", "all", "--map", "reconstruction"], 2, "no map for"),
        (
            [trained.model, images, "--latents", "0", "--attention", "official"],
            2,
            "these have: --attention gradcam, paper, diff_mahal, hires, layercam, exact",
        ),
    ]
    for arguments, code, message in cases:
        outcome = run_cli("localize", *arguments)
        assert outcome.code == code, arguments
        assert message in outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert outcome.stdout == ""
    assert not (tmp_path / "results").exists()


def test_names_with_brackets_are_printed_as_they_are(trained: Trained, tmp_path: Path) -> None:
    """Rich would eat [good] as markup."""
    write_png(tmp_path / "in/[good] part.png", draw_part(0))
    outcome = run_cli("localize", trained.model, tmp_path / "in", "--output", tmp_path / "out")
    assert "[good] part.png" in outcome.stdout


def localize_run(trained: Trained, images: Path, output: Path, *options: object) -> Outcome:
    return run_cli("localize", trained.model, images, "--output", output, *options)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    trained: Trained, images: Path, tmp_path: Path, batch: int
) -> None:
    """Cut off between two lines, in a line, and before the first."""
    whole = tmp_path / "whole"
    assert localize_run(trained, images, whole, "--batch-size", batch).code == 0
    content = (whole / "manifest.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    for cut in (0, len(lines[0]), len(lines[0]) + 20, len(content)):
        out = tmp_path / f"cut{cut}"
        shutil.copytree(whole, out)
        (out / "manifest.jsonl").write_bytes(content[:cut])
        outcome = localize_run(trained, images, out, "--resume", "--batch-size", batch)
        assert outcome.code == 0, outcome.stderr
        assert (out / "manifest.jsonl").read_bytes() == content


def test_a_kill_while_a_manifest_is_begun_again_costs_no_line(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    lines = [{"image": "a.png"}, {"image": "b.png"}]
    with open_manifest(path) as manifest:
        for line in lines:
            manifest.add(line)
    unwritable = {"image": "c.png", "score": math.nan}  # an error stands for the kill
    with pytest.raises(ValueError, match="JSON"), open_manifest(path, [*lines, unwritable]):
        pass
    assert read_manifest(path) == lines


def test_a_full_disk_ends_a_manifest_with_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path, stream = tmp_path / "manifest.jsonl", io.StringIO()
    monkeypatch.setattr(stream, "write", refuse)
    with pytest.raises(OutputError, match=r"manifest\.jsonl: No space left on device"):
        Manifest(path, stream).add({"image": "a.png"})
    with (
        pytest.raises(OutputError, match=r"manifest\.jsonl: No space left on device"),
        open_manifest(path),
    ):
        monkeypatch.setattr(os, "fsync", refuse)


def test_another_run_is_not_gone_on_with(trained: Trained, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert localize_run(trained, images, out).code == 0
    for options in (["--map", "appearance"], ["--threshold", "0.5"], ["--scores", "global"]):
        outcome = localize_run(trained, images, out, "--resume", *options)
        assert outcome.code == 5
        assert "is of other images, or of another model or map; --overwrite" in outcome.stderr
    (out / "manifest.jsonl").write_text("[1]\n")
    assert "is no manifest of localize" in localize_run(trained, images, out, "--resume").stderr
    (out / "manifest.jsonl").write_text("[" * 100_000 + "\n")
    assert "is damaged; --overwrite" in localize_run(trained, images, out, "--resume").stderr


def test_results_of_an_earlier_run_are_no_photographs(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    job = tmp_path / "job"
    shutil.copytree(images, job / "photos")
    count = len(list((job / "photos").rglob("*.png")))
    for name in ("first", "second"):
        outcome = localize_run(trained, job, job / name)
        assert outcome.code == 0, outcome.stderr
        assert len((job / name / "manifest.jsonl").read_text().splitlines()) == count
    assert "first holds results of an earlier run" in outcome.stderr


def test_names_that_no_disk_or_encoding_takes_cost_nothing(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    source = next(images.rglob("*.png"))
    long = "a" * 246 + ".png"
    for name in (b"ok.png", long.encode(), b"caf\xe9.png"):
        shutil.copy(source, os.fsencode(photos) + b"/" + name)
    outcome = localize_run(trained, photos, tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    lines = (tmp_path / "out/manifest.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert sorted(record["image"] for record in records) == sorted(
        ["ok.png", long, "caf\udce9.png"]
    )
    for record in records:
        for file in record["outputs"].values():
            assert (tmp_path / "out" / file).is_file()


def test_links_to_folders_are_followed_once(trained: Trained, images: Path, tmp_path: Path) -> None:
    count = len(list(images.rglob("*.png")))
    (images / "loop").symlink_to(images)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(next(images.rglob("*.png")), other / "z.png")
    for name in ("one", "two"):
        (images / name).symlink_to(other)
    outcome = localize_run(trained, images, tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    assert len((tmp_path / "out/manifest.jsonl").read_text().splitlines()) == count + 1


def test_two_images_for_one_map_are_refused_in_the_layout_of_mvtec(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    for line in ("line1", "line2"):
        folder = tmp_path / line / "disc/test/hole"
        folder.mkdir(parents=True)
        shutil.copy(next(images.rglob("*.png")), folder / "000.png")
    outcome = run_cli(
        "localize", trained.model, tmp_path / "line1", tmp_path / "line2", "--layout", "mvtec",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 3
    assert "would be written to the same file" in outcome.stderr


def test_a_score_that_is_no_number_is_an_error_of_its_image(
    trained: Trained, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exceeds no threshold, and must not pass for normal."""
    add = mapper.add_parts

    def spoil(parts: Any) -> Any:
        total = add(parts)
        if total.mean() == means[-1]:
            total = total + np.nan
        return total

    means: list[float] = []

    def note(parts: Any) -> Any:
        means.append(float(add(parts).mean()))
        return add(parts)

    monkeypatch.setattr(mapper, "add_parts", note)
    assert localize_run(trained, images, tmp_path / "whole").code == 0
    monkeypatch.setattr(mapper, "add_parts", spoil)
    outcome = localize_run(trained, images, tmp_path / "out")
    assert outcome.code == 3
    assert "its score is nan, which is no number" in outcome.stderr
    good, bad = manifest(tmp_path / "out")
    assert "error" in bad
    assert "is_anomalous" not in bad
    assert good == manifest(tmp_path / "whole")[0]
