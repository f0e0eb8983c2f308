"""The training of Section 4: right order, right gradients, one path, exact resumption."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.detector.device import seed_everything
from anomaly_cli.disentangle.dsprites import open_dsprites
from anomaly_cli.disentangle.training import Batches, StepStats, Trainer
from anomaly_cli.errors import TrainingError
from models.conv import conv_vae
from models.discriminator import permute_dims

CONFIG = DisentangleConfig(method="factor-vae", steps=4, batch_size=4, latent_dim=4)
CPU = torch.device("cpu")
Weights = dict[str, Tensor]


def make_trainer(config: DisentangleConfig) -> Trainer:
    """Make a trainer, always from the same start, on rendered images."""
    seed_everything(config.seed)
    vae, objective = conv_vae(config.model), config.objective(config.method)
    return Trainer(vae, open_dsprites(None), objective, config, CPU)


def train(trainer: Trainer) -> list[StepStats]:
    """Train to the end."""
    return [stats for stats in trainer.run() if stats is not None]


def copy_weights(module: torch.nn.Module) -> Weights:
    """Copy the weights as they are now."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def copy_gradients(module: torch.nn.Module) -> Weights:
    """Copy the gradients as they are now, where there are any."""
    parameters = module.named_parameters()
    return {name: p.grad.clone() for name, p in parameters if p.grad is not None}


def assert_same(first: Weights, second: Weights) -> None:
    """Compare bit for bit."""
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def reference_step(
    trainer: Trainer, batches: Batches, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Algorithm 2 of Kim and Mnih with equation 7, the plain way: double backward and all."""
    vae, discriminator, objective = trainer.vae, trainer.discriminator, trainer.objective
    features = vae.encoder.features(batches.images, "conv4")[-1]
    posterior = vae.encoder.posterior([features], "conv4")
    latents = posterior.sample(batches.noise)
    logits = vae.decoder(latents)
    loss = F.binary_cross_entropy_with_logits(logits, batches.images, reduction="sum")
    variance = posterior.logvar.exp()
    kl = 0.5 * (posterior.mu.square() + variance - 1 - posterior.logvar).sum()
    loss = (loss + objective.beta * kl) / len(latents)
    odds = discriminator(latents).log_softmax(dim=1)
    loss = loss + objective.gamma * (odds[:, 0] - odds[:, 1]).mean()
    maps = []
    for latent in batches.pair:
        total = posterior.mu[:, latent].sum()
        (gradient,) = torch.autograd.grad(total, features, create_graph=True)
        maps.append((gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu())
    shared = torch.minimum(*maps).sum(dim=(1, 2))
    overlap = 2 * shared / (maps[0] + maps[1]).sum(dim=(1, 2)).clamp_min(1e-12)
    loss = loss + objective.overlap * overlap.mean()
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    optimizers[0].step()
    others = vae.encode(batches.others).sample(batches.noise).detach()
    real = discriminator(latents.detach())
    fake = discriminator(permute_dims(others, batches.noise))
    zeros = torch.zeros(len(real), dtype=torch.long)
    optimizers[1].zero_grad()
    (0.5 * (F.cross_entropy(real, zeros) + F.cross_entropy(fake, zeros + 1))).backward()
    optimizers[1].step()


def test_steps_are_those_of_the_plain_algorithm() -> None:
    """Three steps with every term, against a loop that takes no short cut."""
    config = replace(CONFIG, method="ad-factor-vae", overlap=20.0, steps=3)
    ours, plain = make_trainer(config), make_trainer(config)
    optimizers = [
        torch.optim.Adam(plain.vae.parameters(), lr=1e-4),
        torch.optim.Adam(plain.discriminator.parameters(), lr=1e-4, betas=(0.5, 0.9)),
    ]
    start = copy_weights(ours.vae)
    train(ours)
    for step in (1, 2, 3):
        reference_step(plain, plain.draw(step), optimizers)
    for module, reference in ((ours.vae, plain.vae), (ours.discriminator, plain.discriminator)):
        for name, tensor in reference.state_dict().items():
            torch.testing.assert_close(module.state_dict()[name], tensor, atol=1e-6, rtol=1e-4)
    moved = max((ours.vae.state_dict()[name] - start[name]).abs().max() for name in start)
    assert moved > 1e-4


def test_lambda_zero_is_factor_vae_bit_for_bit() -> None:
    """After ten steps; and with a lambda it is another model."""
    config = replace(CONFIG, steps=10)
    plain = make_trainer(config)
    train(plain)
    zero = make_trainer(replace(config, method="ad-factor-vae", overlap=0.0))
    train(zero)
    assert_same(copy_weights(plain.vae), copy_weights(zero.vae))
    assert_same(copy_weights(plain.discriminator), copy_weights(zero.discriminator))
    other = make_trainer(replace(config, method="ad-factor-vae", overlap=1.0, steps=5))
    train(other)
    assert not torch.equal(plain.vae.encoder.mu.weight, other.vae.encoder.mu.weight)


def test_resumed_training_ends_in_the_same_weights() -> None:
    """Stopped within a stretch of steps, and taken up in another trainer: bit-identical."""
    config = replace(CONFIG, steps=7)
    whole, first, second = (make_trainer(config) for _ in range(3))
    for trainer in (whole, first, second):
        trainer.report_every = 3
    expected = train(whole)
    run = first.run()
    reports = [next(run) for _ in range(4)]
    second.load_state_dict(first.state_dict())
    reports += train(second)
    assert_same(copy_weights(whole.vae), copy_weights(second.vae))
    assert_same(copy_weights(whole.discriminator), copy_weights(second.discriminator))
    assert [stats.step for stats in expected] == [3, 6, 7]
    for ours, reference in zip([r for r in reports if r], expected, strict=True):
        assert ours[:-1] == reference[:-1]  # all but the seconds


def test_methods_of_a_pair_share_weights_images_and_noise() -> None:
    first = make_trainer(CONFIG)
    second = make_trainer(replace(CONFIG, method="ad-beta-vae"))
    assert_same(copy_weights(first.vae), copy_weights(second.vae))
    for step in (1, 2):
        ours, theirs = first.draw(step), second.draw(step)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.others, theirs.others)
        assert ours.pair == theirs.pair
        draws = [torch.rand(3, generator=batches.noise) for batches in (ours, theirs)]
        assert torch.equal(*draws)
    assert not torch.equal(first.draw(1).images, first.draw(2).images)
    other = make_trainer(replace(CONFIG, seed=1))
    assert not torch.equal(first.draw(1).images, other.draw(1).images)


def test_random_pairs_are_distinct_and_include_every_latent() -> None:
    trainer = make_trainer(CONFIG)
    pairs = [trainer.draw(step).pair for step in range(1, 41)]
    assert all(first != second for first, second in pairs)
    assert {latent for pair in pairs for latent in pair} == {0, 1, 2, 3}


def test_each_step_moves_its_own_network_alone() -> None:
    """The VAE's leaves no gradient in the discriminator; the discriminator's moves no encoder."""
    trainer = make_trainer(CONFIG)
    before = copy_weights(trainer.discriminator)
    order: list[str] = []
    of_vae: list[Weights] = []  # weights and gradients after its step

    def before_vae(*_given: object) -> None:
        order.append("vae")
        assert all(p.grad is None for p in trainer.discriminator.parameters())

    def after_vae(*_given: object) -> None:
        of_vae.extend((copy_weights(trainer.vae), copy_gradients(trainer.vae)))

    def before_discriminator(*_given: object) -> None:
        order.append("discriminator")
        assert_same(copy_weights(trainer.discriminator), before)
        assert_same(copy_gradients(trainer.vae), of_vae[1])

    trainer.optimizer.register_step_pre_hook(before_vae)
    trainer.optimizer.register_step_post_hook(after_vae)
    trainer.discriminator_optimizer.register_step_pre_hook(before_discriminator)
    trainer.train_step(trainer.draw(1))
    assert order == ["vae", "discriminator"]
    assert_same(copy_weights(trainer.vae), of_vae[0])
    assert_same(copy_gradients(trainer.vae), of_vae[1])
    after = copy_weights(trainer.discriminator)
    assert not torch.equal(after["layers.0.weight"], before["layers.0.weight"])


def test_beta_vae_has_no_discriminator() -> None:
    trainer = make_trainer(replace(CONFIG, method="beta-vae", steps=2))
    before = copy_weights(trainer.discriminator)
    (*_, last) = train(trainer)
    assert_same(copy_weights(trainer.discriminator), before)
    assert math.isnan(last.total_correlation)
    assert math.isnan(last.discriminator_accuracy)
    assert last.reconstruction == pytest.approx(64 * 64 * math.log(2), rel=0.1)


def final_stats(overlap: float) -> StepStats:
    """Return the last statistics of a short training whose latents are active from the start."""
    config = replace(CONFIG, method="ad-beta-vae", overlap=overlap, beta=0.05, latent_dim=6)
    config = replace(config, steps=20, batch_size=8, learning_rate=5e-4)
    trainer = make_trainer(config)
    with torch.no_grad():
        trainer.encoder.mu.weight.mul_(20)
    return train(trainer)[-1]


def test_overlap_falls_and_latents_stay_alive() -> None:
    """Lambda separates the maps, also by their shapes alone, and leaves the latents active."""
    plain, parted = final_stats(0.0), final_stats(30.0)
    assert plain.overlap > 0.2
    assert parted.overlap < 0.3 * plain.overlap
    assert parted.shape_overlap < 0.3 * plain.shape_overlap
    assert parted.active_latents >= plain.active_latents >= 5
    assert parted.reconstruction < 1.2 * plain.reconstruction


def test_divergence_stops_the_training() -> None:
    trainer = make_trainer(CONFIG)
    with torch.no_grad():
        trainer.vae.encoder.mu.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"diverged before step 1 .*--learning-rate"):
        train(trainer)
