"""The fused map: witnesses in standard deviations, and what the parts of it add up to."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained, run_cli

from anomaly_cli.checkpoint import load_model
from anomaly_cli.config.commands import MapConfig
from anomaly_cli.fusion import (
    DISTANCE_FLOOR,
    ERROR_FLOOR,
    Fusion,
    MapSettings,
    compress,
    finish_map,
    fit_fusions,
    smooth,
)
from anomaly_cli.localization import open_localizer
from anomaly_cli.maps import MapSpec, map_specs
from anomaly_cli.reached import MARGIN
from anomaly_cli.recording import SMOOTHINGS
from anomaly_cli.score_scales import PRIOR_IMAGES, ScoreScale
from models.appearance import KINDS
from models.config import Attention

FUSED = [MapSpec("fused", "neck"), MapSpec("fused_position", "neck")]


def one(value: float) -> np.ndarray:
    return np.full((1, 1), value, np.float32)


def test_fused_map_is_the_sum_of_four_scores_by_hand() -> None:
    spec = FUSED[0]
    scales = ((1.0, 2.0), (3.0, 4.0), (0.5, 0.25), (-1.0, 0.5))
    fusion = Fusion(*(ScoreScale(one(mean), one(std)) for mean, std in scales))
    values = (np.e, np.e**2, 1.5, 0.5)
    drawn = {
        part: np.full((8, 8), value, np.float32)
        for part, value in zip(spec.parts, values, strict=True)
    }
    fused = finish_map(drawn, spec, MapSettings(0.0, {"fused": fusion}))
    error = (np.log(0.5 + ERROR_FLOOR) + 1) / 0.5
    distances = (np.log(np.e + DISTANCE_FLOOR) - 1) / 2 + (np.log(np.e**2 + DISTANCE_FLOOR) - 3) / 4
    context = (np.log(1.5 + DISTANCE_FLOOR) - 0.5) / 0.25
    expected = distances + context / 2 + error / 2  # these count half
    np.testing.assert_allclose(fused, expected, rtol=1e-5)


def test_a_single_witness_counts_by_its_logarithm_beyond_six_deviations() -> None:
    scores = np.array([[-40.0, 0.0, 3.0, 6.0], [6.001, 6 * np.e, 60.0, 6e3]], np.float32)
    expected = [[-40, 0, 3, 6], [6.001, 12, 6 + 6 * np.log(10), 6 + 6 * np.log(1000)]]
    np.testing.assert_allclose(compress(scores), expected, rtol=1e-5)
    assert compress(scores).dtype == np.float32


def test_where_witnesses_agree_counts_more_than_where_one_shouts() -> None:
    """The same sum of deviations: a halo of one witness, and a defect that three see."""
    halo, defect = np.array([[18.0]], np.float32), np.array([[6.0]], np.float32)
    assert compress(halo).item() < 0.8 * 3 * compress(defect).item()


@pytest.mark.parametrize("strong", [0, 1, 2, 3])
def test_each_part_of_a_fused_map_is_compressed(strong: int) -> None:
    """One part at 30 deviations after its weight, the others at 1 and less."""
    fusion = Fusion(*(ScoreScale(one(0), one(1)) for _ in range(4)))
    scores, weights = np.ones(4), np.array([1, 1, 0.5, 0.5])
    scores[strong] = 30 / weights[strong]
    floors = (*[DISTANCE_FLOOR] * 3, ERROR_FLOOR)
    values = [np.exp(score) - floor for score, floor in zip(scores, floors, strict=True)]
    maps = [np.full((2, 2), value, np.float32) for value in values]
    expected = scores * weights
    expected[strong] = 6 + 6 * np.log(30 / 6)
    for part, value in zip(fusion.parts(maps), expected, strict=True):
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

    def draw(batch: torch.Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, torch.Tensor]:
        rows = batch[:, 0].long()
        return {part: torch.from_numpy(maps[part])[rows] for part in specs}

    batches = torch.arange(6.0)[:, None].split(4)
    fusions = fit_fusions(draw, batches, batches, FUSED, [0.0, 1.0], grid=8)
    assert set(fusions) == {0.0, 1.0}
    logs = np.log(maps[FUSED[0].parts[0]].astype(float) + DISTANCE_FLOOR)
    pooled = fusions[0.0]["fused"].attention
    np.testing.assert_allclose(pooled.mean, logs.mean(), rtol=1e-4)
    np.testing.assert_allclose(pooled.std, logs.std(), rtol=1e-4)
    logs = np.log(maps[FUSED[1].parts[0]].astype(float) + DISTANCE_FLOOR)
    position = fusions[0.0]["fused_position"].attention
    np.testing.assert_allclose(position.mean, logs.mean(axis=0), rtol=1e-4)
    variance = (6 * logs.var(0) + PRIOR_IMAGES * logs.var(0).mean()) / (6 + PRIOR_IMAGES)
    np.testing.assert_allclose(position.std, np.sqrt(variance), rtol=1e-4)
    assert fusions[1.0]["fused"].attention.std < pooled.std
    for already_by_position in fusions[0.0]["fused_position"][1:3]:  # appearance and context
        assert already_by_position.mean.shape == (1, 1)


def test_with_covariances_only_the_error_is_scaled_by_position() -> None:
    """The attention is in units of its position already; each has moments of its own logarithm."""
    spec = MapSpec("fused_covariance", "neck")
    rng = np.random.default_rng(0)
    maps = {part: rng.lognormal(0, 1, (6, 8, 8)).astype(np.float32) for part in spec.parts}

    def draw(batch: torch.Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, torch.Tensor]:
        return {part: torch.from_numpy(maps[part][: len(batch)]) for part in specs}

    images = [torch.zeros(6, 1)]
    fusion = fit_fusions(draw, images, images, [spec], [0.0], grid=8)[0.0][spec.source]
    *distances, error = (maps[part].astype(float) for part in spec.parts)
    for scale, distance in zip(fusion[:-1], distances, strict=True):
        assert scale.mean.shape == (1, 1)
        expected = np.log(distance + DISTANCE_FLOOR).mean()
        np.testing.assert_allclose(scale.mean, expected, rtol=1e-4, atol=1e-5)
    by_position = np.log(error + ERROR_FLOOR).mean(axis=0)
    np.testing.assert_allclose(fusion.reconstruction.mean, by_position, rtol=1e-4, atol=1e-5)


def test_context_alone_is_scaled_by_images_that_it_has_not_seen() -> None:
    spec = MapSpec("fused", "neck")

    def draw(batch: torch.Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, torch.Tensor]:
        return {part: batch.expand(-1, 8, 8) for part in specs}

    fit, held_out = [torch.full((6, 1, 1), 2.0)], [torch.full((3, 1, 1), 5.0)]
    fusion = fit_fusions(draw, fit, held_out, [spec], [0.0], grid=8)[0.0]["fused"]
    np.testing.assert_allclose(fusion.attention.mean, np.log(2 + DISTANCE_FLOOR), rtol=1e-6)
    np.testing.assert_allclose(fusion.appearance.mean, np.log(2 + DISTANCE_FLOOR), rtol=1e-6)
    np.testing.assert_allclose(fusion.context.mean, np.log(5 + DISTANCE_FLOOR), rtol=1e-6)
    np.testing.assert_allclose(fusion.reconstruction.mean, np.log(2 + ERROR_FLOOR), rtol=1e-6)


def test_a_guided_model_shows_a_map_chosen_without_a_label(guided: Trained) -> None:
    record = load_model(guided.model).record
    assert record.model.neck == "fpn"
    fused = [spec for spec in map_specs(record.model) if spec.is_fused]
    names = {str(spec) for pair in fused for spec in (pair, pair.parts[0])}
    assert len(names) == 8
    assert record.default_map in names
    reached = record.training["map_selection"]
    assert len(reached) == 8 * len(SMOOTHINGS)
    chosen = f"{record.default_map}, smoothing {record.settings.smoothing:g} px"
    best = max(sum(row.values()) for row in reached.values())
    is_favoured = record.default_map in {"fused_covariance@neck", "fused_scales@neck"}
    assert sum(reached[chosen].values()) >= best - (2 * MARGIN if is_favoured else 0)
    assert len(record.latent_kinds) == record.model.latent_dim
    assert set(record.settings.trusts) == {spec.source for spec in fused}
    for trust in record.settings.trusts.values():
        assert max(trust.attention, trust.appearance) == 1
        assert all(0 <= part <= 1 for part in trust)


@pytest.mark.parametrize(
    "source", [None, "fused", "attention", "appearance", "context", "reconstruction"]
)
def test_map_option_chooses_the_sum_or_a_part(guided: Trained, source: str | None) -> None:
    localizer = open_localizer(guided.model, MapConfig(source=source))  # type: ignore[arg-type]
    default = load_model(guided.model).record.default_map
    exact = default.replace("fused", "exact")
    fused = exact.replace("exact", "fused")
    expected = {None: default, "fused": fused, "attention": exact}
    assert str(localizer.spec) == expected.get(source, source)


@pytest.mark.parametrize(
    ("config", "is_halved"),
    [
        (MapConfig(source="fused"), True),
        (MapConfig(source="fused", scores="global"), True),
        (MapConfig(source="appearance"), False),
        (MapConfig(source="fused", outline="1.5"), False),
        (MapConfig(source="fused", outline="threshold"), False),
        (MapConfig(source="fused", threshold="3"), False),
    ],
)
def test_regions_of_fused_maps_end_halfway_up_unless_told_otherwise(
    guided: Trained, config: MapConfig, is_halved: bool
) -> None:
    localizer = open_localizer(guided.model, config)
    level = localizer.threshold.normal_level
    assert np.isfinite(level) == is_halved
    if is_halved:
        stored = localizer.loaded.record.calibrations[str(localizer.spec)]
        _scale, calibration = stored.select(localizer.scores)
        assert level == calibration.exceeded_by(0.5)


def test_named_attention_has_its_fused_map(guided: Trained) -> None:
    for attention, name in (
        (Attention.EXACT, "fused"),
        (Attention.EXACT_POSITION, "fused_position"),
        (Attention.EXACT_COVARIANCE, "fused_covariance"),
    ):
        config = MapConfig(source="fused", attention=attention)
        assert str(open_localizer(guided.model, config).spec) == f"{name}@neck"
    outcome = run_cli(
        "localize", guided.model, guided.data / "disc/test", "--map", "fused",
        "--attention", "gradcam", "--output", guided.data / "never",
    )  # fmt: skip
    assert outcome.code == 2
    assert "gradcam is not fused; use exact, exact_position, exact_covariance" in outcome.stderr


def test_parts_and_latents_add_up_to_the_score(guided: Trained, tmp_path: Path) -> None:
    """At the highest pixel the four parts add up to the score, and shares to 1."""
    localizer = open_localizer(guided.model, MapConfig(source="fused"))
    images = torch.rand(3, 3, 64, 64)
    drawn = localizer.maker.with_latents(images, localizer.spec)
    plain = localizer.maker(images, [localizer.spec])[localizer.spec]
    torch.testing.assert_close(drawn.anomaly_maps, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sum(drawn.parts), drawn.anomaly_maps)
    out = tmp_path / "out"
    outcome = run_cli(
        "localize", guided.model, guided.data / "disc/test", "--latents", "all", "--map", "fused",
        "--output", out,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    for line in (out / "manifest.jsonl").read_text().splitlines():
        record = json.loads(line)
        total = sum(record["peak"][name] for name in Fusion._fields)
        assert total == pytest.approx(record["score"], rel=1e-4)
        shares = [latent["share_at_peak"] for latent in record["latents"]]
        assert sum(shares) == pytest.approx(1)
        for source in ("appearance", "context"):
            of_kinds = record["peak"][f"{source}_shares"]
            assert list(of_kinds) == list(KINDS)
            assert sum(of_kinds.values()) == pytest.approx(1)
        assert all(latent["kind"] for latent in record["latents"])
