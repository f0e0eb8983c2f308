"""Guided attention: distance, loss and balance, and training that reads no test image."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from conftest import TRAIN_OPTIONS, run_cli
from torch import Tensor

from anomaly_cli.commands import train
from anomaly_cli.config.names import Guidance as GuidanceName
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.training import fit
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.loop import EpochStats, Trainer
from anomaly_cli.training.objectives import SCALE, GuidedObjective, PlainObjective
from anomaly_cli.training.painted import PAINTED_SHARE, PaintedImages, collate_painted
from models.config import VAEConfig
from models.guidance import GradientBalance, Guidance, guidance_loss
from models.losses import vae_loss_terms
from models.vae import PooledHead, VAEOutput

CONFIG = TrainConfig(
    batch_size=4,
    model=VAEConfig(image_size=64, latent_dim=4, neck="fpn", neck_channels=16),
    category="disc",
    held_out=0.2,
    half_size=0.0,
    images_seen=0,
    learning_rate=1e-3,
    epochs=60,
    augmentation="auto",
)


def test_moving_averages_approach_the_moments_of_normal_latents() -> None:
    torch.manual_seed(0)
    guidance = Guidance(2, 4)
    mean, std = torch.randn(2, 4, 4), torch.rand(2, 4, 4) + 0.5  # each position has its own
    for _ in range(60):
        guidance.observe(torch.randn(64, 2, 4, 4) * std + mean)
    torch.testing.assert_close(guidance.mean, mean, atol=0.2, rtol=0)
    torch.testing.assert_close(guidance.variance.sqrt(), std, atol=0.2, rtol=0)
    before = guidance.mean.clone()
    guidance.observe(torch.empty(0, 2, 4, 4))  # a batch in which every image is painted
    assert torch.equal(guidance.mean, before)


def test_logit_rises_with_the_squared_deviation_whatever_its_sign() -> None:
    guidance = Guidance(1, 2)
    guidance.variance.fill_(4.0)
    logits = [guidance(torch.full((1, 1, 2, 2), z), (4, 4)) for z in (0.0, 4.0, -4.0, 20.0)]
    assert all(logit.shape == (1, 4, 4) for logit in logits)
    assert logits[0].max() < logits[1].max() < logits[3].max()
    torch.testing.assert_close(logits[1], logits[2])
    # log(1 + 16 / (4 + 4 / 2 + 0.001)), times softplus(1), minus 3
    expected = np.log1p(np.e) * np.log1p(16 / 6.001) - 3
    assert logits[1][0, 0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_latents_of_smaller_images_are_compared_on_their_own_grid() -> None:
    """Only 3 x 3 positions ever come: the 6 x 6 of the statistics are copies of them."""
    torch.manual_seed(0)
    fine, coarse = Guidance(2, 6), Guidance(2, 3)
    for _ in range(30):
        local = torch.randn(8, 2, 3, 3) + torch.arange(3.0)
        fine.observe(local)
        coarse.observe(local)
    torch.testing.assert_close(fine.mean[:, ::2, 1::2], coarse.mean)
    local = 3 * torch.randn(4, 2, 3, 3)
    torch.testing.assert_close(fine(local, (12, 12)), coarse(local, (12, 12)))


def test_loss_by_hand_and_at_its_ends() -> None:
    """Two pixels, one of them in the mask, at logit 0: 5 ln 2 and 1 - (2 * 0.5 + 1) / (2 + 1)."""
    masks = torch.tensor([[[1.0, 0.0]]])
    assert guidance_loss(torch.zeros(1, 1, 2), masks).item() == pytest.approx(
        5 * np.log(2) + 1 / 3, rel=1e-6
    )
    perfect = torch.tensor([[[40.0, -40.0]]])
    assert guidance_loss(perfect, masks).item() == pytest.approx(0, abs=1e-6)
    assert guidance_loss(-perfect, masks) > 100


def test_balance_brings_the_weighted_gradient_to_the_ratio() -> None:
    balance = GradientBalance(3.0)
    for _ in range(50):
        balance.observe(balance.weight * torch.full((4,), 2.0), torch.full((4,), 0.01))
    weighted = balance.weight * torch.full((4,), 2.0).norm()
    assert weighted.item() == pytest.approx(torch.full((4,), 0.01).norm().item() / 3, rel=1e-5)


def test_most_images_are_painted_by_seed_epoch_and_index(mvtec: Path) -> None:
    images = open_training_set(replace(CONFIG, data=mvtec))
    painted = PaintedImages(images.fit, images.painter)
    shares, first = [], painted[0]
    for epoch in range(20):
        images.fit.epoch = epoch
        batch = [painted[index] for index in range(len(painted))]
        shares += [image.mask.any() for image in batch]
        for image in batch:
            changed = (image.painted != image.normal).any(axis=2)
            np.testing.assert_array_equal(image.mask, changed)
            assert (image.kind is None) == (not image.mask.any())
    assert abs(np.mean(shares) - PAINTED_SHARE) < 0.15
    images.fit.epoch = 0
    np.testing.assert_array_equal(painted[0].painted, first.painted)
    tensors = collate_painted(batch)
    assert tensors.masks.shape == (len(batch), 64, 64)
    assert set(tensors.masks.unique().tolist()) <= {0.0, 1.0}


def objective_of(mvtec: Path, epochs: int = 1) -> tuple[GuidedObjective, Trainer]:
    config = replace(CONFIG, data=mvtec, epochs=epochs)
    trainer = fit.make_trainer(config, open_training_set(config), torch.device("cpu"))
    assert isinstance(trainer.objective, GuidedObjective)
    return trainer.objective, trainer


def gradients_of(objective: GuidedObjective, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*objective.vae.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {n: g for n, g in zip(names, found, strict=True) if g is not None}


def test_gradients_of_both_losses_reach_the_encoder_and_their_norms_are_balanced(
    mvtec: Path,
) -> None:
    """The weight is the ratio of the gradients that both losses have in the last activation."""
    objective, _trainer = objective_of(mvtec)
    vae, encoder, config = objective.vae.train(), objective.encoder, objective.plain.config
    batch = next(iter(objective.loader(1, workers=0)))
    losses = objective.losses(batch, torch.Generator().manual_seed(0))
    assert "encoder.conv1.weight" in gradients_of(objective, losses.parts[2])
    assert "encoder.conv1.weight" in gradients_of(objective, losses.parts[0])
    assert not any(n.startswith("decoder") for n in gradients_of(objective, losses.parts[2]))
    losses = objective.losses(batch, torch.Generator().manual_seed(0))
    losses.total.backward()
    objective.after_backward()

    features = encoder.features(batch.painted, "neck")
    posterior = encoder.posterior(features, "neck")
    logits = vae.decoder(posterior.sample(torch.Generator().manual_seed(0)))
    terms = vae_loss_terms(
        VAEOutput(posterior, logits), vae.targets(batch.normal), config.model.reconstruction
    )
    bound = (terms[0] + config.model.beta * terms[1]).mean() / (3 * 64**2)
    head = encoder.closed_head("neck")
    assert isinstance(head, PooledHead)
    local = head.local_latents(features[-1])
    misfit = guidance_loss(objective.guidance(local, (64, 64)), batch.masks)
    torch.testing.assert_close(losses.parts[2], misfit)
    torch.testing.assert_close(losses.total, SCALE * (bound + misfit))
    of_bound, of_misfit = (
        torch.autograd.grad(loss, features[-1], retain_graph=True)[0] for loss in (bound, misfit)
    )
    expected = of_misfit.norm() / (CONFIG.guidance_ratio * of_bound.norm())
    torch.testing.assert_close(objective.balance.weight, expected, rtol=1e-4, atol=0)


@pytest.mark.usefixtures("thin_network")
def test_bfloat16_trains_to_about_the_same_losses(mvtec: Path) -> None:
    """The norms that balance the losses are kept in float32, whatever the activation is of."""
    losses = {}
    for amp in (False, True):
        config = replace(CONFIG, data=mvtec, epochs=3, amp=amp)
        trainer = fit.make_trainer(config, open_training_set(config), torch.device("cpu"))
        losses[amp] = [stats for stats in trainer.run() if isinstance(stats, EpochStats)]
        assert all(p.dtype == torch.float32 for p in trainer.network.parameters())
    assert losses[True] != losses[False]
    for half, full in zip(losses[True], losses[False], strict=True):
        assert half.losses[2] == pytest.approx(full.losses[2], rel=0.1)
        assert half.held_out[2] == pytest.approx(full.held_out[2], rel=0.2)
        assert half.losses[0] == pytest.approx(full.losses[0], rel=0.1)


@pytest.mark.parametrize("is_fast", [False, True])
def test_bfloat16_is_used_where_it_is_faster_but_not_in_the_papers_training(
    monkeypatch: pytest.MonkeyPatch, *, is_fast: bool
) -> None:
    monkeypatch.setattr(fit, "is_fast_in_bfloat16", lambda _device: is_fast)

    def settled(guidance: GuidanceName, given: bool | None) -> bool | None:
        config = replace(CONFIG, guidance=guidance, amp=given)
        return fit.settle(config, 8, torch.device("cpu")).amp

    for guidance in get_args(GuidanceName):
        assert settled(guidance, given=True) is True
        assert settled(guidance, given=False) is False
    assert settled("synthetic", given=None) is is_fast
    assert settled("none", given=None) is False


@pytest.mark.usefixtures("thin_network")
def test_training_uses_bfloat16_where_it_is_faster_and_the_model_remembers_it(
    mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "is_fast_in_bfloat16", lambda _device: True)
    used = []
    autocast = PlainObjective.autocast

    def noted(objective: PlainObjective) -> torch.autocast:
        used.append(objective.config.amp)
        return autocast(objective)

    monkeypatch.setattr(PlainObjective, "autocast", noted)
    config = replace(CONFIG, data=mvtec, epochs=1, output=tmp_path, device="cpu")
    (trained,) = train.run(config)
    assert load_model(trained.model).record.training["amp"] is True
    assert set(used) == {True}


@pytest.mark.usefixtures("thin_network")
def test_guidance_falls_in_training_and_selects_the_epoch(mvtec: Path) -> None:
    _objective, trainer = objective_of(mvtec, epochs=25)
    epochs = [stats for stats in trainer.run() if isinstance(stats, EpochStats)]
    assert epochs[-1].losses[2] < 0.9 * epochs[0].losses[2]
    evaluated = [stats for stats in epochs if stats.held_out is not None]
    assert trainer.best_loss == min(stats.held_out[2] for stats in evaluated)
    assert all(stats.held_out_loss == stats.held_out[2] for stats in evaluated)


_WATCHED: list[str] = []  # every file opened, while a test watches
_IS_WATCHING = False


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _IS_WATCHING and event == "open":
        _WATCHED.append(str(arguments[0]))


sys.addaudithook(_watch)  # cannot be taken away again


@pytest.mark.usefixtures("thin_network")
def test_training_opens_no_test_image_and_no_mask(
    mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every opening of a file is watched, from the first image to the calibrated model."""
    monkeypatch.setitem(globals(), "_IS_WATCHING", True)
    outcome = run_cli(
        "train", "--data", mvtec, "--category", "disc", "--output", tmp_path / "runs",
        "--epochs", 1, *TRAIN_OPTIONS,
    )  # fmt: skip
    monkeypatch.setitem(globals(), "_IS_WATCHING", False)
    assert outcome.code == 0, outcome.stderr
    opened = {path for path in _WATCHED if path.startswith(str(mvtec))}
    assert len(opened) >= 10
    assert not [path for path in opened if "/train/good/" not in path]
