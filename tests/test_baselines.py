"""Maps without attention: known answers, `--map`, and the table beside the report."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained, run_cli

from anomaly_cli.config.names import BASELINES
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.vae_mapper import PRIOR_WIDTH, baseline_map
from anomaly_cli.evaluation.baselines import COLUMNS
from models.config import VAEConfig
from models.resnet import resnet18_vae
from models.vae import VAE


@pytest.fixture(scope="module")
def vae(trained: Trained) -> VAE:
    return load_model(trained.model).network


@pytest.mark.parametrize("source", [name for name in BASELINES if name != "appearance"])
def test_baseline_maps_have_their_shape_and_range_with_and_without_known_latents(
    vae: VAE, source: str
) -> None:
    images = torch.rand(2, 3, 64, 64)
    anomaly_map = baseline_map(source, vae, images)
    assert anomaly_map.shape == (2, 64, 64)
    assert anomaly_map.dtype == torch.float32
    assert anomaly_map.min() >= 0
    assert anomaly_map.max() <= (2 if source == "ssim" else 1)
    with torch.no_grad():
        latents = vae.encode(images).mu
    torch.testing.assert_close(baseline_map(source, vae, images, latents), anomaly_map)


@pytest.mark.parametrize("source", ["reconstruction", "ssim"])
def test_the_map_is_zero_where_the_image_is_rebuilt_exactly_and_high_where_it_differs(
    vae: VAE, source: str
) -> None:
    with torch.no_grad():
        rebuilt = vae.reconstruct(torch.rand(1, 3, 64, 64))
        latents = vae.encode(torch.rand(1, 3, 64, 64)).mu
        same = vae.decode(latents)
    torch.testing.assert_close(
        baseline_map(source, vae, same, latents), torch.zeros(1, 64, 64), atol=1e-5, rtol=0
    )
    changed = same.clone()
    changed[:, :, 20:30, 40:50] = 1 - changed[:, :, 20:30, 40:50].round()
    anomaly_map = baseline_map(source, vae, changed, latents)[0]
    assert anomaly_map[20:30, 40:50].mean() > 0.3
    assert anomaly_map[:10].abs().max() < 1e-5
    assert rebuilt.shape == same.shape


@pytest.mark.parametrize("source", ["reconstruction", "ssim"])
def test_a_decoder_of_half_the_side_has_maps_of_the_whole_one(source: str) -> None:
    vae = resnet18_vae(VAEConfig(image_size=64, latent_dim=4, rebuilds_half=True)).eval()
    latents = torch.randn(2, 4)
    with torch.no_grad():
        rebuilt = vae.decode(latents)
    enlarged = rebuilt.repeat_interleave(2, 2).repeat_interleave(2, 3)
    same = baseline_map(source, vae, enlarged, latents)
    torch.testing.assert_close(same, torch.zeros(2, 64, 64), atol=1e-5, rtol=0)
    enlarged[:, :, 20:30, 40:50] = 1 - enlarged[:, :, 20:30, 40:50].round()
    anomaly_map = baseline_map(source, vae, enlarged, latents)
    assert anomaly_map.shape == (2, 64, 64)
    assert anomaly_map[:, 21:29, 41:49].mean() > 0.3
    assert anomaly_map[:, :8].abs().max() < 1e-5


def test_centre_prior_is_a_gaussian_that_does_not_depend_on_the_image(vae: VAE) -> None:
    one, other = baseline_map("centre_prior", vae, torch.rand(2, 3, 65, 65))
    assert torch.equal(one, other)
    assert one[32, 32] == 1
    assert one[32, 0].item() == pytest.approx(np.exp(-0.25 / (2 * PRIOR_WIDTH**2)))
    torch.testing.assert_close(one, one.flip(0).T)


@pytest.mark.parametrize("source", ["ssim", "centre_prior"])
def test_localize_writes_baseline_maps(trained: Trained, tmp_path: Path, source: str) -> None:
    outcome = run_cli(
        "localize", trained.model, trained.data / "disc/test", "--map", source,
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    (line, *_others) = (tmp_path / "out/manifest.jsonl").read_text().splitlines()
    assert json.loads(line)["map"] == source
    refused = run_cli(
        "localize", trained.model, trained.data / "disc/test", "--map", source, "--latents", "all",
        "--output", tmp_path / "never",
    )  # fmt: skip
    assert refused.code == 2


def test_evaluate_writes_baselines_beside_the_map_of_the_model(
    trained: Trained, tmp_path: Path
) -> None:
    evaluate = ("evaluate", "--data", trained.data, "--format", "json,csv,markdown")
    outcome = run_cli(
        *evaluate, "--runs", trained.runs, "--baselines", "--output", tmp_path / "out"
    )
    assert outcome.code == 0, outcome.stderr
    table = json.loads((tmp_path / "out/baselines.json").read_text())
    row = table["rows"]["disc, pixel AUROC"]
    assert list(row) == ["the model's map", *COLUMNS]
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert row["the model's map"] == pytest.approx(report["categories"][0]["pixel_auroc"])
    alone = run_cli(
        *evaluate, "--runs", trained.runs, "--map", "ssim", "--output", tmp_path / "ssim"
    )
    assert alone.code == 0, alone.stderr
    of_ssim = json.loads((tmp_path / "ssim/report.json").read_text())["categories"][0]
    assert row["attention"] == row["the model's map"]
    assert row["memory"] is None
    assert row["ssim"] == pytest.approx(of_ssim["pixel_auroc"])
    # The prior is the same for all images.
    assert table["rows"]["disc, image AUROC"]["centre_prior"] == 0.5
    assert (tmp_path / "out/baselines.md").read_text().count("centre_prior") >= 2
    assert (tmp_path / "out/baselines.csv").is_file()


def test_saved_maps_have_no_baselines(trained: Trained, tmp_path: Path) -> None:
    outcome = run_cli("evaluate", "--maps", tmp_path, "--data", trained.data, "--baselines")
    assert outcome.code == 2
    assert "--baselines needs a model" in outcome.stderr
