"""What the autoencoders learn from images of stripes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.files.images import RGBImage, write_png
from anomaly_cli.training.autoencoder import AutoencoderObjective
from anomaly_cli.training.dataset import TrainingSet, open_training_set
from models.autoencoder import Autoencoder
from models.config import AutoencoderConfig, VAEConfig

SIZE = 64  # pixels
WHOLE = AutoencoderConfig(image_size=SIZE, latent_dim=8)
PATCHES = replace(WHOLE, patch_size=32)
CPU = torch.device("cpu")


def draw_stripes(seed: int) -> RGBImage:
    """Draw grey stripes of 16 pixels with a little noise, (64, 64, 3)."""
    noise = np.random.default_rng(seed).normal(0, 4, (SIZE, SIZE, 3))
    stripes = 128 + 76 * np.sin(np.arange(SIZE) * 2 * np.pi / 16)
    return np.clip(stripes[:, None] + noise, 0, 255).astype(np.uint8)


def train_config(data: Path) -> TrainConfig:
    return TrainConfig(
        data=data,
        category="stripes",
        model=VAEConfig(image_size=SIZE),
        guidance="none",
        half_size=0.0,
        batch_size=4,
        held_out=0.2,
        augmentation="none",
        amp=False,
    )


@pytest.fixture
def striped(tmp_path: Path) -> Path:
    """Write a data set of 10 normal images."""
    for seed in range(10):
        write_png(tmp_path / f"stripes/train/good/{seed}.png", draw_stripes(seed))
    return tmp_path


@pytest.fixture
def images(striped: Path) -> TrainingSet:
    """Open them: 8 are fitted, 2 are held out."""
    return open_training_set(train_config(striped))


def make_objective(
    config: AutoencoderConfig, images: TrainingSet, data: Path
) -> AutoencoderObjective:
    torch.manual_seed(0)
    return AutoencoderObjective(Autoencoder(config).eval(), images, train_config(data), CPU)


def fit(objective: AutoencoderObjective, epochs: int) -> list[float]:
    """Train with Adam; list the mean loss of each epoch."""
    parameters = list(objective.network.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3, betas=objective.betas)
    objective.network.train()
    history = []
    for epoch in range(1, epochs + 1):
        noise = torch.Generator().manual_seed(epoch)
        values = []
        for batch in objective.loader(epoch, workers=0):
            losses = objective.losses(batch, noise)
            optimizer.zero_grad()
            losses.total.backward()
            objective.after_backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            assert len(losses.parts) == len(objective.names)
            values.append(float(losses.parts[0]))
        history.append(sum(values) / len(values))
    objective.network.eval()
    return history


@pytest.mark.parametrize("loss", ["l2", "ssim"])
@pytest.mark.parametrize(("config", "epochs"), [(WHOLE, 15), (PATCHES, 40)], ids=["whole", "patch"])
def test_training_lowers_the_loss_and_a_defect_stands_out(
    config: AutoencoderConfig, epochs: int, loss: str, images: TrainingSet, striped: Path
) -> None:
    objective = make_objective(replace(config, loss=loss), images, striped)
    before = objective.held_out_losses()
    history = fit(objective, epochs)
    after = objective.held_out_losses()
    assert history[-1] < 0.5 * history[0]
    assert after.selection < 0.5 * before.selection
    assert after.parts == (after.selection,)
    assert after.image_size == SIZE
    image, is_defect = draw_stripes(100), np.zeros((SIZE, SIZE), bool)
    is_defect[30:40, 20:30] = True
    image[is_defect] = (250, 20, 20)
    anomaly_map = objective.network.anomaly_maps(to_tensor(image[None]))[0].numpy()
    assert anomaly_map[is_defect].mean() > 3 * anomaly_map[~is_defect].mean()


@pytest.mark.parametrize("config", [WHOLE, PATCHES], ids=str)
def test_losses_are_a_function_of_seed_and_epoch(
    config: AutoencoderConfig, images: TrainingSet, striped: Path
) -> None:
    objective = make_objective(config, images, striped)

    def losses(epoch: int) -> list[float]:
        noise = torch.Generator().manual_seed(epoch)
        batches = objective.loader(epoch, workers=0)
        return [float(objective.losses(batch, noise).total.detach()) for batch in batches]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_held_out_loss_is_the_mean_of_the_maps(images: TrainingSet, striped: Path) -> None:
    objective = make_objective(PATCHES, images, striped)
    held_out = torch.cat(list(images.held_out.batches(1)))
    assert len(held_out) == 2
    expected = float(objective.network.anomaly_maps(held_out).mean())
    assert objective.held_out_losses().selection == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["l2", "ssim"])
def test_bfloat16_changes_the_loss_little(loss: str, images: TrainingSet, striped: Path) -> None:
    """The network alone computes in it: SSIM in bfloat16 would be far off."""
    objective = make_objective(replace(WHOLE, loss=loss), images, striped)
    batch = to_tensor(np.stack([draw_stripes(0), draw_stripes(1)]))
    noise = torch.Generator()
    exact = objective.losses(batch, noise).total.detach()
    objective.config = replace(objective.config, amp=True)
    coarse = objective.losses(batch, noise).total.detach()
    assert coarse != exact
    torch.testing.assert_close(coarse, exact, rtol=0.01, atol=0)
