"""Training objective of AnoGAN: two losses at once, and the last epoch is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_part

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.files.images import write_png
from anomaly_cli.training.anogan import AnoGANObjective
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.images import NormalImages
from anomaly_cli.training.split import NormalSplit
from models.anogan import AnoGAN
from models.config import AnoGANConfig

CONFIG = AnoGANConfig(image_size=32, latent_dim=8, width=4)
CPU = torch.device("cpu")


@pytest.fixture
def images(tmp_path: Path) -> TrainingSet:
    """Read pictures of the same part, 12 to train with and 4 that are held out."""
    paths = [tmp_path / f"{number}.png" for number in range(16)]
    for number, path in enumerate(paths):
        write_png(path, draw_part(number))
    split = NormalSplit(paths[:12], paths[12:], 16)
    fit, held_out = NormalImages(split.fit, 32), NormalImages(split.held_out, 32)
    return TrainingSet(split, fit, held_out, None, [])


def test_each_loss_has_a_gradient_in_its_own_network_alone(images: TrainingSet) -> None:
    network = AnoGAN(CONFIG)
    objective = AnoGANObjective(network, images, TrainConfig(batch_size=6), CPU)
    batch = next(iter(objective.loader(1, workers=0)))
    losses = objective.losses(batch, torch.Generator().manual_seed(0))
    own = dict(zip(objective.names, (network.generator, network.discriminator), strict=True))
    for name, loss in zip(objective.names, losses.parts, strict=True):
        for other, part in own.items():
            gradients = torch.autograd.grad(
                loss, list(part.parameters()), retain_graph=True, allow_unused=True
            )
            assert all((gradient is not None) == (name == other) for gradient in gradients)


def test_generators_loss_leaves_the_moving_averages_of_the_discriminator(
    images: TrainingSet,
) -> None:
    """Two updates in a step: one by real images, one by drawn ones."""
    network = AnoGAN(CONFIG)
    objective = AnoGANObjective(network, images, TrainConfig(batch_size=6), CPU)
    batch = next(iter(objective.loader(1, workers=0)))
    objective.losses(batch, torch.Generator().manual_seed(0))
    updates = [
        int(buffer)
        for name, buffer in network.discriminator.named_buffers()
        if name.endswith("num_batches_tracked")
    ]
    assert updates == [2, 2]


def test_training_brings_the_samples_closer_to_the_images(images: TrainingSet) -> None:
    torch.manual_seed(0)
    network = AnoGAN(CONFIG)
    objective = AnoGANObjective(network, images, TrainConfig(batch_size=12), CPU)
    mean = next(images.held_out.batches(4)).mean(dim=0)
    distances, selections = [], []
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=objective.betas)
    for epoch in range(1, 121):
        noise = torch.Generator().manual_seed(epoch)
        for batch in objective.loader(epoch, workers=0):
            losses = objective.losses(batch, noise)
            optimizer.zero_grad()
            losses.total.backward()
            objective.after_backward()
            optimizer.step()
        if epoch in {1, 120}:
            network.eval()
            distances.append(float((network.sample(64, seed=0).mean(dim=0) - mean).abs().mean()))
            held_out = objective.held_out_losses()
            selections.append(held_out.selection)
            assert np.isfinite(held_out.parts).all()
            assert held_out == objective.held_out_losses()
            network.train()
    assert distances[1] < distances[0] / 2
    assert selections == [None, None]  # no epoch is preferred, so the last one is kept


def test_textures_are_learned_from_random_patches(images: TrainingSet) -> None:
    config = AnoGANConfig(image_size=64, patch_size=32, latent_dim=8, width=4)
    whole = images._replace(
        fit=NormalImages(images.split.fit, 64), held_out=NormalImages(images.split.held_out, 64)
    )
    objective = AnoGANObjective(AnoGAN(config), whole, TrainConfig(batch_size=4), CPU)
    batch = next(iter(objective.loader(1, workers=0)))
    assert batch.shape == (4, 3, 64, 64)
    losses = objective.losses(batch, torch.Generator().manual_seed(0))
    assert losses.total.isfinite()
    assert objective.held_out_losses().image_size == 64
