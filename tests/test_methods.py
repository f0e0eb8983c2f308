"""Every compared method goes through the same commands as the VAE, and treats bad input alike."""

import csv
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained, draw_hole, draw_part, make_once, run_cli, write_category

from anomaly_cli import Detector
from anomaly_cli.config.compared import in_patches
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.maps import map_specs
from anomaly_cli.errors import ConfigError
from anomaly_cli.files.images import write_png
from anomaly_cli.training import fit
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.loop import EpochStats
from models.build import build_network
from models.config import COMPARED, AnoGANConfig, AutoencoderConfig, DictionaryConfig, MethodName

OPTIONS: Mapping[MethodName, tuple[object, ...]] = {
    "ae-l2": ("--epochs", 30, "--latent-dim", 8),
    "ae-ssim": ("--epochs", 30, "--latent-dim", 8),
    "anogan": ("--epochs", 4, "--search-steps", 5),
    "feature-dictionary": ("--centres", 20, "--nearest", 3),
}
SHARED = ("--image-size", 64, "--batch-size", 4, "--held-out", 0.3)


def train(method: str, data: Path, runs: Path, *options: object) -> None:
    outcome = run_cli(
        "train", "--method", method, "--data", data, "--category", "disc", "--output", runs,
        *SHARED, *options,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr


@pytest.fixture(scope="module", params=COMPARED)
def method(request: pytest.FixtureRequest) -> MethodName:
    return request.param


@pytest.fixture(scope="module")
def trained(method: MethodName, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    def make(folder: Path) -> None:
        write_category(folder / "mvtec", "disc", train=12)
        train(method, folder / "mvtec", folder / "runs", *OPTIONS[method])

    folder = make_once(tmp_path_factory, f"method-{method}", make)
    return Trained(folder / "mvtec", folder / "runs")


def test_the_file_holds_method_map_and_all_weights(trained: Trained, method: MethodName) -> None:
    loaded = load_model(trained.model)
    assert loaded.record.model.method == method
    assert loaded.record.default_map == method
    assert loaded.record.statistics is None
    assert [str(spec) for spec in map_specs(loaded.record.model)] == ["centre_prior", method]
    again = build_network(loaded.record.model)
    again.load_state_dict(loaded.network.state_dict())
    rows = list(csv.DictReader((trained.runs / "disc/metrics.csv").open()))
    assert rows
    numbers = [value for value in rows[-1].values() if value not in {"", "True", "False"}]
    assert all(math.isfinite(float(number)) for number in numbers)


def test_evaluate_writes_the_report_of_any_method(
    trained: Trained, method: MethodName, tmp_path: Path
) -> None:
    outcome = run_cli(
        "evaluate", "--data", trained.data, "--runs", trained.runs, "--output", tmp_path / "out"
    )
    assert outcome.code == 0, outcome.stderr
    (row,) = json.loads((tmp_path / "out/report.json").read_text())["categories"]
    assert row["map"] == method
    assert 0 <= row["pixel_auroc"] <= 1
    if method != "anogan":  # four epochs make no generator
        assert row["pixel_auroc"] > 0.85


def test_localize_and_detector_give_the_same_map(
    trained: Trained, method: MethodName, tmp_path: Path
) -> None:
    images = trained.data / "disc/test/hole"
    outcome = run_cli("localize", trained.model, images, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").open()]
    assert [line["map"] for line in lines] == [method] * 3
    assert all((tmp_path / "out" / path).is_file() for path in lines[0]["outputs"].values())
    detector = Detector.load(trained.model)
    predictions = list(detector.predict_files(sorted(images.glob("*.png"))))
    assert [prediction.score for prediction in predictions] == [line["score"] for line in lines]


def test_a_map_does_not_depend_on_the_other_images(trained: Trained) -> None:
    detector = Detector.load(trained.model)
    image = draw_hole(5)[0]
    alone = detector.predict(image).network_map
    paths = [trained.data / "disc/test/good/000.png", trained.data / "disc/test/hole/000.png"]
    together = [prediction.network_map for prediction in detector.predict_files(paths)]
    single = [detector.predict(path).network_map for path in paths]
    for one, other in zip(together, single, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert np.array_equal(alone, detector.predict(image).network_map)


def test_explain_shows_what_the_method_expects(
    trained: Trained, method: MethodName, tmp_path: Path
) -> None:
    images = trained.data / "disc/test/hole"
    outcome = run_cli("explain", trained.model, images, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    report = json.loads((tmp_path / "out/explain.json").read_text())
    assert report["latents"] == []
    assert [image["latents"] for image in report["images"]] == [[], [], []]
    assert (tmp_path / "out/explain.png").is_file()
    expected = Detector.load(trained.model).expected(draw_part(7))
    if method == "feature-dictionary":
        assert expected is None
    else:
        assert expected is not None
        assert expected.shape == (64, 64, 3)
    if expected is not None and method == "ae-l2":  # four epochs are too few for the others
        assert np.corrcoef(expected.ravel(), draw_part(7).ravel())[0, 1] > 0.5


def test_latents_are_refused_where_there_are_none(
    trained: Trained, method: MethodName, tmp_path: Path
) -> None:
    images = trained.data / "disc/test/hole"
    for command in ("explain", "localize"):
        outcome = run_cli(
            command, trained.model, images, "--latents", "0", "--output", tmp_path / "out"
        )
        assert outcome.code == 2
        assert f"{method} has no map for each latent" in " ".join(outcome.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_map_of_another_method_is_refused(
    trained: Trained, method: MethodName, tmp_path: Path
) -> None:
    images = trained.data / "disc/test/hole"
    for name in ("fused", "attention", "memory"):
        outcome = run_cli(
            "localize", trained.model, images, "--map", name, "--output", tmp_path / "out"
        )
        assert outcome.code == 2
        assert method in outcome.stderr
    outcome = run_cli(
        "localize", trained.model, images, "--map", "centre_prior", "--output", tmp_path / "out"
    )
    assert outcome.code == 0, outcome.stderr


def test_a_bad_image_costs_no_other(trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_png(folder / "a.png", draw_part(1))
    (folder / "b.png").write_bytes(b"no picture")
    write_png(folder / "c.png", draw_part(2)[:, :40])
    outcome = run_cli("localize", trained.model, folder, "--output", tmp_path / "out")
    assert outcome.code == 3
    lines = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").open()]
    assert ["error" in line for line in lines] == [False, True, False]


def test_settings_of_a_run_train_the_same_again(
    trained: Trained, method: MethodName, tmp_path: Path
) -> None:
    if method == "anogan":
        pytest.skip("covered by the resumed training")
    settings = trained.runs / "disc/settings.toml"
    outcome = run_cli("train", "--config", settings, "--output", tmp_path / "runs")
    assert outcome.code == 0, outcome.stderr
    first, again = (load_model(path) for path in (trained.model, tmp_path / "runs/disc"))
    assert first.record.model == again.record.model
    for name, weights in first.network.state_dict().items():
        torch.testing.assert_close(weights, again.network.state_dict()[name])


@pytest.mark.parametrize("name", [name for name in COMPARED if name != "feature-dictionary"])
def test_a_resumed_training_ends_in_the_same_weights(name: MethodName, tmp_path: Path) -> None:
    write_category(tmp_path / "mvtec", "disc", train=12)
    config = TrainConfig.resolve(
        method=name, data=tmp_path / "mvtec", category="disc", image_size=64, epochs=3,
        batch_size=4, held_out=0.3,
    )  # fmt: skip
    images, cpu = open_training_set(config), torch.device("cpu")
    undisturbed = fit.make_trainer(config, images, cpu)
    for _ in undisturbed.run():
        pass
    stopped = fit.make_trainer(config, images, cpu)
    for stats in stopped.run():
        if isinstance(stats, EpochStats) and stats.epoch == 1:
            break
    resumed = fit.make_trainer(config, images, cpu)
    resumed.load_state_dict(stopped.state_dict())
    for _ in resumed.run():
        pass
    for key, weights in undisturbed.best_weights.items():
        torch.testing.assert_close(weights, resumed.best_weights[key], rtol=0, atol=0)


def test_a_damaged_file_is_refused(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(trained.model, path)
    content = bytearray(path.read_bytes())
    path.write_bytes(bytes(content[: len(content) // 2]))
    outcome = run_cli("localize", path, trained.data, "--output", tmp_path / "out")
    assert outcome.code == 4
    assert "damaged" in outcome.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance": "synthetic"}, "--guidance is not an option of ae-l2"),
        ({"neck": "fpn"}, "--neck is not an option of ae-l2"),
        ({"fast": True}, "--fast is not an option of ae-l2"),
        ({"search_steps": 3}, "--search-steps is not an option of ae-l2"),
        ({"centres": 3}, "--centres is not an option of ae-l2"),
        ({"weights": "imagenet", "encoder": "resnet18"}, "is not an option of ae-l2"),
        ({"patch_size": 33}, "--patch-size must be 0, or a multiple of 32"),
        ({"patch_size": 512}, "--patch-size must be 0, or a multiple of 32 and at most"),
        ({"image_size": 100}, "--image-size must be a multiple of 32"),
        ({"latent_dim": 0}, "--latent-dim must be at least 1"),
        ({"dataset": "mnist"}, "--method ae-l2 needs photographs, not mnist"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.resolve(method="ae-l2", **options)


@pytest.mark.parametrize("name", ["patch_size", "search_steps", "centres", "nearest"])
def test_options_of_the_others_are_refused_by_the_vae(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} is not an option of vae"):
        TrainConfig.resolve(**{name: 64})


def test_sizes_that_anogan_cannot_draw_are_refused() -> None:
    with pytest.raises(ConfigError, match="power of two for anogan"):
        TrainConfig.resolve(method="anogan", image_size=96)


def test_textures_are_seen_in_patches_and_objects_whole() -> None:
    """Bergmann et al. cut textures into patches of 128 pixels, half the side of the image."""
    assert in_patches(AutoencoderConfig(), "tile") == AutoencoderConfig(patch_size=128)
    assert in_patches(AutoencoderConfig(), "bottle") == AutoencoderConfig()
    assert in_patches(AutoencoderConfig(patch_size=256), "tile").patch_size == 256
    assert in_patches(AnoGANConfig(), "carpet").patch_size == 64
    assert in_patches(DictionaryConfig(), "tile") == DictionaryConfig()


def test_export_keeps_the_results_or_says_why_not(
    trained: Trained, method: MethodName, tmp_path: Path
) -> None:
    path = tmp_path / "disc.pt2"
    images = trained.data / "disc/test"
    outcome = run_cli(
        "export", trained.model, "--format", "torch", "--output", path, "--check", images
    )
    if method == "anogan":
        assert outcome.code == 2
        assert "gradients while it tests" in outcome.stderr.replace("\n", " ")
        assert not path.exists()
    else:
        assert outcome.code == 0, outcome.stderr
        assert path.stat().st_size > 1000
