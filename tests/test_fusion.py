"""Fused maps: parts in standard deviations of normal images, and their sum."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained, run_cli

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.detector.checkpoint import load_calibrations, load_model
from anomaly_cli.detector.fusion import (
    MapSettings,
    compress,
    finish_map,
    fit_fusions,
    scale_parts,
    smooth,
)
from anomaly_cli.detector.maps import DEFINITIONS, PARTS, MapSpec, map_specs
from anomaly_cli.detector.normal.appearance import KINDS
from anomaly_cli.detector.scales import PRIOR_IMAGES, ScoreScale
from anomaly_cli.training.calibrate import open_detector
from anomaly_cli.training.scoring import MARGIN
from anomaly_cli.training.selection import SMOOTHINGS
from models.config import Attention

NAMES = DEFINITIONS["fused"].parts
FUSED = [MapSpec("fused", "neck"), MapSpec("fused_position", "neck")]
DISTANCE_FLOOR, ERROR_FLOOR = 1.0, 0.01


def test_every_part_has_the_floor_that_models_were_made_with() -> None:
    floors = {name: part.floor for name, part in PARTS.items()}
    assert floors == {
        "attention": DISTANCE_FLOOR,
        "appearance": DISTANCE_FLOOR,
        "context": DISTANCE_FLOOR,
        "reconstruction": ERROR_FLOOR,
        "memory": 0.1,
    }


def one(value: float) -> np.ndarray:
    return np.full((1, 1), value, np.float32)


def test_fused_map_is_the_sum_of_four_scores_by_hand() -> None:
    spec = FUSED[0]
    pairs = ((1.0, 2.0), (3.0, 4.0), (0.5, 0.25), (-1.0, 0.5))
    scales = {
        name: ScoreScale(one(mean), one(std))
        for name, (mean, std) in zip(NAMES, pairs, strict=True)
    }
    values = (np.e, np.e**2, 1.5, 0.5)
    maps = {
        part: np.full((8, 8), value, np.float32)
        for part, value in zip(spec.parts, values, strict=True)
    }
    fused = finish_map(maps, spec, MapSettings(0.0, {"fused": scales}))
    error = (np.log(0.5 + ERROR_FLOOR) + 1) / 0.5
    distances = (np.log(np.e + DISTANCE_FLOOR) - 1) / 2 + (np.log(np.e**2 + DISTANCE_FLOOR) - 3) / 4
    context = (np.log(1.5 + DISTANCE_FLOOR) - 0.5) / 0.25
    expected = distances + context / 2 + error / 2  # these count half
    np.testing.assert_allclose(fused, expected, rtol=1e-5)


def test_scores_beyond_six_deviations_grow_by_their_logarithm() -> None:
    scores = np.array([[-40.0, 0.0, 3.0, 6.0], [6.001, 6 * np.e, 60.0, 6e3]], np.float32)
    expected = [[-40, 0, 3, 6], [6.001, 12, 6 + 6 * np.log(10), 6 + 6 * np.log(1000)]]
    np.testing.assert_allclose(compress(scores), expected, rtol=1e-5)
    assert compress(scores).dtype == np.float32


def test_three_parts_that_agree_count_more_than_one_extreme_part() -> None:
    """The sum of deviations is equal: a halo in one part, and a defect in three of them."""
    halo, defect = np.array([[18.0]], np.float32), np.array([[6.0]], np.float32)
    assert compress(halo).item() < 0.8 * 3 * compress(defect).item()


@pytest.mark.parametrize("strong", [0, 1, 2, 3])
def test_each_part_of_a_fused_map_is_compressed(strong: int) -> None:
    """One part at 30 deviations after its weight, the others at 1 and less."""
    scales = dict.fromkeys(NAMES, ScoreScale(one(0), one(1)))
    scores, weights = np.ones(4), np.array([1, 1, 0.5, 0.5])
    scores[strong] = 30 / weights[strong]
    floors = (*[DISTANCE_FLOOR] * 3, ERROR_FLOOR)
    values = [np.exp(score) - floor for score, floor in zip(scores, floors, strict=True)]
    maps = [np.full((2, 2), value, np.float32) for value in values]
    expected = scores * weights
    expected[strong] = 6 + 6 * np.log(30 / 6)
    for part, value in zip(scale_parts(maps, scales), expected, strict=True):
        np.testing.assert_allclose(part, value, rtol=1e-4)


def test_smoothing_keeps_the_mean_and_zero_changes_nothing() -> None:
    anomaly_map = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    assert smooth(anomaly_map, 0.0) is anomaly_map
    assert smooth(anomaly_map, 2.0).std() < 0.3 * anomaly_map.std()
    np.testing.assert_allclose(smooth(np.full((32, 32), 3.0, np.float32), 2.0), 3.0, rtol=1e-6)


def test_scales_are_the_moments_of_the_logarithms() -> None:
    """Pooled: over images and positions. Per position: over images, the variance shrunk."""
    rng = np.random.default_rng(0)
    maps = {part: rng.lognormal(0, 1, (6, 8, 8)).astype(np.float32) for part in FUSED[0].parts}
    maps |= {part: rng.lognormal(2, 1, (6, 8, 8)).astype(np.float32) for part in FUSED[1].parts}

    def compute(batch: torch.Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, torch.Tensor]:
        rows = batch[:, 0].long()
        return {part: torch.from_numpy(maps[part])[rows] for part in specs}

    batches = torch.arange(6.0)[:, None].split(4)
    fusions = fit_fusions(compute, batches, batches, FUSED, [0.0, 1.0], grid=8)
    assert set(fusions) == {0.0, 1.0}
    logs = np.log(maps[FUSED[0].parts[0]].astype(float) + DISTANCE_FLOOR)
    pooled = fusions[0.0]["fused"]["attention"]
    np.testing.assert_allclose(pooled.mean, logs.mean(), rtol=1e-4)
    np.testing.assert_allclose(pooled.std, logs.std(), rtol=1e-4)
    logs = np.log(maps[FUSED[1].parts[0]].astype(float) + DISTANCE_FLOOR)
    position = fusions[0.0]["fused_position"]["attention"]
    np.testing.assert_allclose(position.mean, logs.mean(axis=0), rtol=1e-4)
    variance = (6 * logs.var(0) + PRIOR_IMAGES * logs.var(0).mean()) / (6 + PRIOR_IMAGES)
    np.testing.assert_allclose(position.std, np.sqrt(variance), rtol=1e-4)
    assert fusions[1.0]["fused"]["attention"].std < pooled.std
    for name in ("appearance", "context"):  # in units of their position already
        assert fusions[0.0]["fused_position"][name].mean.shape == (1, 1)


def test_with_covariances_only_the_error_is_scaled_by_position() -> None:
    """The attention is in units of its position already; each has moments of its own logarithm."""
    spec = MapSpec("fused_covariance", "neck")
    rng = np.random.default_rng(0)
    maps = {part: rng.lognormal(0, 1, (6, 8, 8)).astype(np.float32) for part in spec.parts}

    def compute(batch: torch.Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, torch.Tensor]:
        return {part: torch.from_numpy(maps[part][: len(batch)]) for part in specs}

    images = [torch.zeros(6, 1)]
    scales = fit_fusions(compute, images, images, [spec], [0.0], grid=8)[0.0][spec.source]
    assert tuple(scales) == NAMES
    *distances, error = (maps[part].astype(float) for part in spec.parts)
    for scale, distance in zip(list(scales.values())[:-1], distances, strict=True):
        assert scale.mean.shape == (1, 1)
        expected = np.log(distance + DISTANCE_FLOOR).mean()
        np.testing.assert_allclose(scale.mean, expected, rtol=1e-4, atol=1e-5)
    by_position = np.log(error + ERROR_FLOOR).mean(axis=0)
    np.testing.assert_allclose(scales["reconstruction"].mean, by_position, rtol=1e-4, atol=1e-5)


def test_only_context_is_scaled_by_held_out_images() -> None:
    spec = MapSpec("fused", "neck")

    def compute(batch: torch.Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, torch.Tensor]:
        return {part: batch.expand(-1, 8, 8) for part in specs}

    fit, held_out = [torch.full((6, 1, 1), 2.0)], [torch.full((3, 1, 1), 5.0)]
    scales = fit_fusions(compute, fit, held_out, [spec], [0.0], grid=8)[0.0]["fused"]
    expected = {
        "attention": np.log(2 + DISTANCE_FLOOR),
        "appearance": np.log(2 + DISTANCE_FLOOR),
        "context": np.log(5 + DISTANCE_FLOOR),
        "reconstruction": np.log(2 + ERROR_FLOOR),
    }
    for name, mean in expected.items():
        np.testing.assert_allclose(scales[name].mean, mean, rtol=1e-6)


def test_a_guided_model_shows_a_map_chosen_without_a_label(guided: Trained) -> None:
    record = load_model(guided.model).record
    assert record.model.neck == "fpn"
    fused = [spec for spec in map_specs(record.model) if spec.is_fused]
    names = {str(spec) for pair in fused for spec in (pair, pair.parts[0])}
    assert len(names) == 8
    assert record.default_map in names
    scores = record.training["map_selection"]
    assert len(scores) == 8 * len(SMOOTHINGS)
    chosen = f"{record.default_map}, smoothing {record.settings.smoothing:g} px"
    best = max(sum(row.values()) for row in scores.values())
    is_favoured = record.default_map in {"fused_covariance@neck", "fused_scales@neck"}
    assert sum(scores[chosen].values()) >= best - (2 * MARGIN if is_favoured else 0)
    assert len(record.latent_kinds) == record.model.latent_dim
    assert set(record.settings.weights) == {spec.source for spec in fused}
    for weights in record.settings.weights.values():
        assert tuple(weights) == NAMES
        assert max(weights["attention"], weights["appearance"]) == 1
        assert all(0 <= weight <= 1 for weight in weights.values())


@pytest.mark.parametrize(
    "source", [None, "fused", "attention", "appearance", "context", "reconstruction"]
)
def test_map_option_chooses_the_sum_or_a_part(guided: Trained, source: str | None) -> None:
    detector = open_detector(guided.model, MapConfig(source=source))  # type: ignore[arg-type]
    default = load_model(guided.model).record.default_map
    exact = default.replace("fused", "exact")
    fused = exact.replace("exact", "fused")
    expected = {None: default, "fused": fused, "attention": exact}
    assert str(detector.spec) == expected.get(source, source)


@pytest.mark.parametrize(
    ("config", "is_halved"),
    [
        (MapConfig(source="fused"), True),
        (MapConfig(source="fused", scores="global"), True),
        (MapConfig(source="appearance"), False),
        (MapConfig(source="fused", outline=1.5), False),
        (MapConfig(source="fused", outline=math.nan), False),
        (MapConfig(source="fused", threshold=3.0), False),
    ],
)
def test_regions_of_fused_maps_end_halfway_up_by_default(
    guided: Trained, tmp_path: Path, config: MapConfig, is_halved: bool
) -> None:
    model = shutil.copytree(guided.model.parent, tmp_path / "disc")
    detector = open_detector(model, config)
    level = detector.threshold.normal_level
    assert np.isfinite(level) == is_halved
    if is_halved:
        loaded = load_model(model)
        stored = {**loaded.record.calibrations, **load_calibrations(loaded)}
        _scale, calibration = stored[str(detector.spec)].select(detector.scores)
        assert level == calibration.exceeded_by(0.5)


def test_named_attention_has_its_fused_map(guided: Trained) -> None:
    for attention, name in (
        (Attention.EXACT, "fused"),
        (Attention.EXACT_POSITION, "fused_position"),
        (Attention.EXACT_COVARIANCE, "fused_covariance"),
    ):
        config = MapConfig(source="fused", attention=attention)
        assert str(open_detector(guided.model, config).spec) == f"{name}@neck"
    outcome = run_cli(
        "localize", guided.model, guided.data / "disc/test", "--map", "fused",
        "--attention", "gradcam", "--output", guided.data / "never",
    )  # fmt: skip
    assert outcome.code == 2
    assert "gradcam is not fused; use exact, exact_position, exact_covariance" in outcome.stderr


def test_parts_and_latents_add_up_to_the_score(guided: Trained, tmp_path: Path) -> None:
    """At the highest pixel the four parts add up to the score, and shares to 1."""
    detector = open_detector(guided.model, MapConfig(source="fused"))
    mapper, images = detector.view.mapper, torch.rand(3, 3, 64, 64)
    computed = mapper.with_latents(images, detector.spec)
    plain = mapper(images, [detector.spec])[detector.spec]
    np.testing.assert_allclose(computed.anomaly_maps, plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        sum(computed.parts.values()), computed.anomaly_maps, rtol=1.3e-6, atol=1e-5
    )
    out = tmp_path / "out"
    outcome = run_cli(
        "localize", guided.model, guided.data / "disc/test", "--latents", "all", "--map", "fused",
        "--output", out,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    for line in (out / "manifest.jsonl").read_text().splitlines():
        record = json.loads(line)
        total = sum(record["peak"][name] for name in NAMES)
        assert total == pytest.approx(record["score"], rel=1e-4)
        shares = [latent["share_at_peak"] for latent in record["latents"]]
        assert sum(shares) == pytest.approx(1)
        for source in ("appearance", "context"):
            of_kinds = record["peak"][f"{source}_shares"]
            assert list(of_kinds) == list(KINDS)
            assert sum(of_kinds.values()) == pytest.approx(1)
        assert all(latent["kind"] for latent in record["latents"])
