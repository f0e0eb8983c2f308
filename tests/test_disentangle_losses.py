"""Losses of Section 4 against hand-worked values, and the closed form against double backward."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from models.activations import activate
from models.config import ConvVAEConfig
from models.conv import ConvEncoder, conv_vae
from models.discriminator import Discriminator, permute_dims
from models.gradients import Weighting, signed_maps
from models.losses import (
    attention_disentanglement_loss,
    discriminator_loss,
    latent_pairs,
    total_correlation,
)
from models.objective import MapNorm, Objective, Pairs

PAIR = torch.tensor([[[0, 1]]])
CONFIG = ConvVAEConfig(image_size=16, channels=(4, 6), hidden=8, latent_dim=4)


def maps_of(*rows: list[float]) -> Tensor:
    """One image's maps with one row of positions for each latent, (1, D, 1, P)."""
    return torch.tensor([rows])[:, :, None]


def overlap(maps: Tensor, norm: MapNorm = "none") -> float:
    """Compute the loss of the first two latents of one image."""
    return float(attention_disentanglement_loss(maps, PAIR, norm))


def test_equal_maps_overlap_fully_and_disjoint_ones_not() -> None:
    assert overlap(maps_of([1, 2, 0], [1, 2, 0])) == 1
    assert overlap(maps_of([1, 2, 0], [0, 0, 5])) == 0


def test_overlap_is_twice_the_shared_part_of_both() -> None:
    """Minima (1, 0, 2) sum to 3; both maps sum to 3 + 5: 2 * 3 / 8."""
    assert overlap(maps_of([1, 0, 2], [1, 1, 3])) == pytest.approx(0.75)


def test_a_shrunken_map_lowers_the_papers_overlap_but_not_that_of_shapes() -> None:
    """L(M, M / 100) = 2 * 0.01 / 1.01: the way out that `sum` closes."""
    maps = maps_of([1, 2], [0.01, 0.02])
    assert overlap(maps) == pytest.approx(0.02 / 1.01)
    assert overlap(maps, "sum") == pytest.approx(1)


@pytest.mark.parametrize("norm", ["none", "sum"])
def test_empty_maps_do_not_overlap_and_have_finite_gradients(norm: MapNorm) -> None:
    features = torch.zeros(1, 2, 2, 2, requires_grad=True)
    loss = attention_disentanglement_loss(features.relu(), PAIR, norm).sum()
    loss.backward()
    assert loss == 0
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_all_pairs_are_averaged_in_each_image() -> None:
    """Latents 0 and 1 are equal, 2 is apart: one of three pairs overlaps, with value 1."""
    maps = torch.cat([maps_of([1, 0], [1, 0], [0, 1]), maps_of([1, 0], [1, 0], [1, 0])])
    losses = attention_disentanglement_loss(maps, latent_pairs(maps, "all"))
    torch.testing.assert_close(losses, torch.tensor([1 / 3, 1.0]))


def test_top2_takes_the_two_largest_maps_of_each_image() -> None:
    maps = torch.cat([maps_of([1, 0], [5, 5], [0, 3]), maps_of([9, 0], [0, 0], [8, 0])])
    pairs = latent_pairs(maps, "top2")
    assert pairs.tolist() == [[[1, 2]], [[0, 2]]]
    losses = attention_disentanglement_loss(maps, pairs)
    torch.testing.assert_close(losses, torch.tensor([2 * 3 / 13, 2 * 8 / 17]))


def test_a_random_pair_is_the_one_that_was_drawn() -> None:
    assert latent_pairs(torch.rand(2, 4, 1, 1), "random", (3, 1)).tolist() == [[[3, 1]]]


def loss_gradients(maps: Tensor, pairs: Pairs, encoder: ConvEncoder) -> list[Tensor]:
    """Compute the gradient of the loss in every parameter that has one."""
    loss = attention_disentanglement_loss(maps, latent_pairs(maps, pairs, (2, 0))).mean()
    gradients = torch.autograd.grad(loss, list(encoder.parameters()), allow_unused=True)
    return [torch.zeros(()) if gradient is None else gradient for gradient in gradients]


def double_backward_maps(encoder: ConvEncoder, images: Tensor) -> Tensor:
    """Grad-CAM of each latent, by a derivative that can be differentiated again."""
    features = encoder.features(images, encoder.layers[-1])
    mu = encoder.posterior(features, encoder.layers[-1]).mu
    maps = []
    for latent in range(mu.shape[1]):
        (gradient,) = torch.autograd.grad(mu[:, latent].sum(), features[-1], create_graph=True)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        maps.append((weights * features[-1]).sum(dim=1).relu())
    return torch.stack(maps, dim=1)


@pytest.mark.parametrize("pairs", ["random", "top2", "all"])
def test_closed_form_has_the_parameter_gradients_of_double_backward(pairs: Pairs) -> None:
    torch.manual_seed(0)
    encoder = conv_vae(CONFIG).double().encoder.eval()
    assert isinstance(encoder, ConvEncoder)
    images = torch.rand(5, 1, 16, 16, dtype=torch.float64)
    activation = activate(encoder, images, "conv2", create_graph=True)
    signed = signed_maps(activation, [Weighting.MEAN], create_graph=True)[Weighting.MEAN]
    closed = loss_gradients(signed.relu(), pairs, encoder)
    double = loss_gradients(double_backward_maps(encoder, images), pairs, encoder)
    moved = 0
    for ours, reference in zip(closed, double, strict=True):
        assert (ours - reference).abs().max() < 1e-10
        moved += bool(reference.abs().max() > 1e-6)
    assert moved >= 6  # both convolutions with biases, the hidden layer, the heads


def test_discriminator_that_does_not_know_costs_a_coin() -> None:
    logits = torch.zeros(3, 2)
    torch.testing.assert_close(discriminator_loss(logits, logits), torch.full((3,), math.log(2)))
    assert total_correlation(logits).tolist() == [0, 0, 0]


def test_discriminator_loss_is_the_mean_of_two_cross_entropies() -> None:
    joint, permuted = torch.randn(2, 6, 2)
    zeros, ones = torch.zeros(6, dtype=torch.long), torch.ones(6, dtype=torch.long)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = (
        cross_entropy(joint, zeros, reduction="none")
        + cross_entropy(permuted, ones, reduction="none")
    ) / 2
    torch.testing.assert_close(discriminator_loss(joint, permuted), expected)


def test_total_correlation_of_the_best_discriminator_is_the_true_one() -> None:
    """Two latents with correlation r: TC = -ln(1 - r^2) / 2, here 0.5108 nats at r = 0.8."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200_000, 2, generator=generator)
    latents = torch.stack([noise[:, 0], 0.8 * noise[:, 0] + 0.6 * noise[:, 1]], dim=1)
    joint = torch.distributions.MultivariateNormal(
        torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    )
    product = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    logits = torch.stack([joint.log_prob(latents), product.log_prob(latents)], dim=1)
    estimate = total_correlation(logits).mean()
    assert estimate == pytest.approx(-0.5 * math.log(1 - 0.64), abs=0.01)


def test_permuting_keeps_each_marginal_and_breaks_the_rows() -> None:
    latents = torch.arange(64.0)[:, None].repeat(1, 3)
    permuted = permute_dims(latents, torch.Generator().manual_seed(0))
    assert torch.equal(permuted.sort(dim=0).values, latents)
    assert (permuted[:, 0] != permuted[:, 1]).sum() > 50
    again = permute_dims(latents, torch.Generator().manual_seed(0))
    assert torch.equal(permuted, again)


def test_discriminator_has_six_hidden_layers_of_a_thousand_units() -> None:
    linear = [m for m in Discriminator(10).modules() if isinstance(m, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [1000] * 6 + [2]


@pytest.mark.parametrize("name", ["beta", "gamma", "overlap"])
def test_a_negative_weight_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="zero or positive"):
        Objective(**{name: -1.0})  # type: ignore[arg-type]
