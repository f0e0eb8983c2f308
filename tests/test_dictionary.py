"""The feature dictionary: its distances, PCA and k-means, and how it is fitted."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_hole, draw_part
from sklearn.decomposition import PCA
from torch import Tensor
from torchvision.models import resnet18

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.errors import ConfigError, TrainingError
from anomaly_cli.training import dictionary as training
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.dictionary import (
    DictionaryTrainer,
    fit_dictionary,
    make_dictionary,
)
from anomaly_cli.training.loop import EpochStats, StepStats
from anomaly_cli.training.pretrained import load_features
from models.build import with_weights
from models.config import DictionaryConfig, EncoderName
from models.dictionary import FeatureDictionary

MODEL = DictionaryConfig(image_size=64, centres=12, nearest=3)
CONFIG = TrainConfig(
    model=MODEL,  # type: ignore[arg-type]
    guidance="none",
    epochs=1,
    images_seen=0,
    batch_size=3,
    augmentation="none",
    held_out=0.2,
    category="disc",
)
CPU = torch.device("cpu")
LITE_CHANNELS = 40 + 112
RESNET_CHANNELS = 128 + 256

Make = Callable[..., DictionaryTrainer]


@pytest.fixture
def make_trainer(mvtec: Path) -> Make:
    """Make trainers of the 10 normal images of `disc`: 8 to fit, 2 held out."""

    def make(config: TrainConfig = CONFIG) -> DictionaryTrainer:
        config = replace(config, data=mvtec)
        return DictionaryTrainer(make_dictionary(config), open_training_set(config), config, CPU)

    return make


def with_seed(seed: int) -> TrainConfig:
    return replace(CONFIG, seed=seed)


def draw_patches(count: int, channels: int = LITE_CHANNELS, *, seed: int = 0) -> np.ndarray:
    """Draw correlated features with unequal means."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(count, 8))
    mixed = hidden @ generator.normal(size=(8, channels)) + 5 * generator.normal(size=channels)
    return (mixed + 0.1 * generator.normal(size=mixed.shape)).astype(np.float32)


def fitted(patches: np.ndarray, *, seed: int = 0) -> FeatureDictionary:
    network = FeatureDictionary(MODEL)
    fit_dictionary(network, patches, seed=seed)
    return network


def images(count: int) -> Tensor:
    return to_tensor(np.stack([draw_part(seed) for seed in range(count)]))


def test_distances_are_those_of_a_loop_over_the_centres() -> None:
    network = fitted(draw_patches(300))
    parts = (network.mean, network.components, network.centres)
    mean, components, centres = (part.double().numpy() for part in parts)
    patches = draw_patches(20, seed=1)
    expected = []
    for patch in patches.astype(np.float64):
        reduced = components @ (patch - mean)
        distances = [np.linalg.norm(reduced - centre) for centre in centres]
        expected.append(np.mean(sorted(distances)[:3]))
    found = network.distances(torch.from_numpy(patches))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_projection_is_that_of_scikit_learn_and_keeps_95_percent() -> None:
    patches = draw_patches(300)
    network = fitted(patches)
    # As the paper has it: with the exact solver, where ours takes that of many patches.
    reference = PCA(0.95, svd_solver="full").fit(patches.astype(np.float64))
    kept = len(reference.components_)
    assert 1 < kept < 9
    found = (torch.from_numpy(patches) - network.mean) @ network.components.T
    expected = reference.transform(patches.astype(np.float64))
    np.testing.assert_allclose(found[:, :kept].numpy(), expected, atol=1e-3)
    assert (network.components[kept:] == 0).all()
    assert (network.centres[:, kept:] == 0).all()
    shares = expected.var(axis=0) / patches.astype(np.float64).var(axis=0).sum()
    assert shares.sum() >= 0.95 > shares[:-1].sum()


def test_centres_of_separate_clusters_are_their_means() -> None:
    """12 clusters, 100 times further apart than they are wide."""
    generator = np.random.default_rng(0)
    means = 10 * generator.normal(size=(12, LITE_CHANNELS))
    noise = 0.1 * generator.normal(size=(12, 30, LITE_CHANNELS))
    patches = (means[:, None] + noise).astype(np.float32)
    network = fitted(patches.reshape(-1, LITE_CHANNELS))
    expected = torch.from_numpy(patches.mean(axis=1)) - network.mean
    reduced = expected @ network.components.T
    apart = torch.cdist(reduced, network.centres).min(dim=1)
    assert sorted(apart.indices.tolist()) == list(range(12))
    assert apart.values.max() < 0.1


@pytest.mark.parametrize(
    ("encoder", "channels"),
    [("efficientnet-lite0", LITE_CHANNELS), ("resnet18", RESNET_CHANNELS)],
)
def test_shapes_depend_on_the_settings_alone(encoder: EncoderName, channels: int) -> None:
    model = replace(MODEL, encoder=encoder)
    network = FeatureDictionary(model)
    assert network.mean.shape == (channels,)
    assert network.components.shape == (channels, channels)
    assert network.centres.shape == (12, channels)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    names = network.state_dict()
    assert not any(name.startswith(("encoder.layer4", "encoder.mu")) for name in names)


def test_state_of_a_fitted_dictionary_makes_an_equal_one(make_trainer: Make) -> None:
    trainer = make_trainer()
    list(trainer.run())
    copy = with_weights(lambda: FeatureDictionary(MODEL), trainer.best_weights)
    expected = trainer.network.anomaly_maps(images(2))
    assert torch.equal(copy.anomaly_maps(images(2)), expected)
    with pytest.raises(RuntimeError, match="centres"):
        with_weights(lambda: FeatureDictionary(replace(MODEL, centres=13)), trainer.best_weights)


def test_blob_scores_higher_than_its_surroundings(make_trainer: Make) -> None:
    trainer = make_trainer(replace(CONFIG, model=replace(MODEL, centres=100)))
    list(trainer.run())
    for seed in range(3):
        image, mask = draw_hole(2000 + seed)
        (found,) = trainer.network.anomaly_maps(to_tensor(image[None]))
        assert found.shape == mask.shape
        assert found.isfinite().all()
        assert found[mask].mean() > 1.5 * found[~mask].mean()
        row, column = divmod(int(found.argmax()), 64)
        near = mask[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9]  # one place
        assert near.any()


def test_maps_of_held_out_places_have_a_mean_of_1(make_trainer: Make) -> None:
    trainer = make_trainer()
    list(trainer.run())
    (held_out,) = trainer.images.held_out.batches(2)
    assert float(trainer.network.anomaly_maps(held_out).mean()) == pytest.approx(1.0, abs=1e-4)


def test_maps_do_not_depend_on_the_batch(make_trainer: Make) -> None:
    trainer = make_trainer()
    list(trainer.run())
    together = trainer.network.anomaly_maps(images(4))
    alone = torch.cat([trainer.network.anomaly_maps(images(4)[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


def test_train_mode_does_not_change_the_encoder() -> None:
    network = FeatureDictionary(replace(MODEL, encoder="resnet18")).train()
    before = {name: part.clone() for name, part in network.state_dict().items()}
    network.features(torch.rand(4, 3, 64, 64))
    assert all(torch.equal(before[name], part) for name, part in network.state_dict().items())


def test_seed_decides_the_dictionary(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PATCHES", 8 * 40)  # 40 of the 64 patches of each image
    trainers = [make_trainer(with_seed(seed)) for seed in (0, 0)]
    for trainer in trainers:
        list(trainer.run())
    first, again = (trainer.best_weights for trainer in trainers)
    assert all(torch.equal(first[name], again[name]) for name in first)
    patches = draw_patches(300)
    assert not torch.equal(fitted(patches).centres, fitted(patches, seed=1).centres)


def test_statistics_tell_batches_and_the_result(make_trainer: Make) -> None:
    trainer = make_trainer()
    *steps, epoch = trainer.run()
    assert all(isinstance(stats, StepStats) for stats in steps)
    assert [(stats.step, stats.images) for stats in steps] == [(1, 3), (2, 3), (3, 2)]
    assert {stats.steps for stats in steps} == {3} == {trainer.steps}
    assert isinstance(epoch, EpochStats)
    # 12 centres are nearer than the mean of all patches, which is the only one before.
    assert 0 < epoch.losses[0] < steps[-1].losses[0]
    maps = torch.cat([trainer.network.distance_maps(b) for b in trainer.images.fit.batches(8)])
    assert epoch.losses[0] == pytest.approx(float(maps.mean()), rel=1e-4)
    assert epoch.held_out == (epoch.held_out_loss,)
    assert epoch.held_out_loss == pytest.approx(float(trainer.network.scale))


def test_a_sample_is_drawn_where_there_are_many_patches(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "PATCHES", 8 * 5)
    counts = []
    fit = training.fit_dictionary
    monkeypatch.setattr(
        training,
        "fit_dictionary",
        lambda network, patches, *, seed: (
            counts.append(len(patches)),
            fit(network, patches, seed=seed),
        ),
    )
    list(make_trainer().run())
    assert counts == [8 * 5]


def test_restored_trainer_has_nothing_left_to_do(make_trainer: Make) -> None:
    trainer, other = make_trainer(), make_trainer()
    list(trainer.run())
    other.load_state_dict(trainer.state_dict())
    assert list(other.run()) == []
    assert other.epoch == 1
    assert all(
        torch.equal(part, other.best_weights[name]) for name, part in trainer.best_weights.items()
    )
    begun = make_trainer()
    begun.load_state_dict(make_trainer().state_dict())
    list(begun.run())
    assert torch.equal(begun.network.centres, trainer.network.centres)


def test_too_few_patches_are_refused_before_any_is_computed(make_trainer: Make) -> None:
    model = replace(MODEL, centres=513)
    expected = (
        "--centres 513 needs at least 513 normal patches, and 8 images of 64 px give 512; "
        "use --centres 512 or fewer, more images, or a larger --image-size"
    )
    with pytest.raises(ConfigError, match=re.escape(expected)):
        make_trainer(replace(CONFIG, model=model))
    make_trainer(replace(CONFIG, model=replace(model, centres=512)))


def test_more_centres_than_distinct_patches_are_no_warning() -> None:
    patches = np.repeat(draw_patches(6), 10, axis=0)
    network = fitted(patches)
    assert network.distances(torch.from_numpy(patches)).isfinite().all()


def test_weights_of_efficientnet_come_from_the_package() -> None:
    network = make_dictionary(CONFIG)
    expected = load_features().state_dict()
    found = network.encoder.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_resnet_features_are_those_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = resnet18(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "resnet18.pth")
    model = replace(MODEL, encoder="resnet18")
    config = replace(CONFIG, model=model, weights=str(tmp_path / "resnet18.pth"))
    network = make_dictionary(config)
    batch = images(2)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        hidden = (batch - mean[:, None, None]) / std[:, None, None]
        hidden = reference.maxpool(reference.relu(reference.bn1(reference.conv1(hidden))))
        fine = reference.layer2(reference.layer1(hidden))
    around = torch.nn.functional.avg_pool2d(fine, 3, 1, 1)
    found = network.features(batch)
    assert found.shape == (2, RESNET_CHANNELS, 8, 8)
    torch.testing.assert_close(found[:, :128], around, rtol=1e-4, atol=1e-4)


def test_resnet_without_weights_is_refused() -> None:
    config = replace(CONFIG, model=replace(MODEL, encoder="resnet18"))
    with pytest.raises(ConfigError, match="--encoder resnet18 needs --weights"):
        make_dictionary(config)


def test_features_that_are_not_finite_end_the_fit(make_trainer: Make) -> None:
    trainer = make_trainer()
    for parameter in trainer.network.encoder.parameters():
        parameter.fill_(torch.nan)
    with pytest.raises(TrainingError, match="not finite"):
        list(trainer.run())
    assert trainer.best_weights == {}
