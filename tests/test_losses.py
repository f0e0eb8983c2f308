"""Loss terms against hand-worked values and torch's own distributions."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from models.losses import kl_divergence, reconstruction_loss, vae_loss_terms
from models.vae import Posterior, VAEOutput


def test_kl_of_unit_shift_is_half_a_nat_per_latent() -> None:
    kl = kl_divergence(torch.ones(1, 4), torch.zeros(1, 4))
    torch.testing.assert_close(kl, torch.tensor([2.0]))


@given(mu=st.floats(-5, 5), logvar=st.floats(-5, 5))
def test_kl_equals_that_of_torch(mu: float, logvar: float) -> None:
    ours = kl_divergence(
        torch.tensor([[mu]], dtype=torch.float64), torch.tensor([[logvar]], dtype=torch.float64)
    )
    posterior = Normal(torch.tensor(mu, dtype=torch.float64), math.exp(logvar / 2))
    reference = reference_kl(posterior, Normal(torch.tensor(0.0, dtype=torch.float64), 1.0))
    torch.testing.assert_close(ours[0], reference, atol=1e-9, rtol=1e-9)


def test_cross_entropy_sums_over_pixels_and_keeps_images_apart() -> None:
    """Logit 0 is a coin: ln 2 nats for each of the 12 values, whatever the target."""
    images = torch.rand(2, 3, 2, 2)
    loss = reconstruction_loss(torch.zeros(2, 3, 2, 2), images)
    torch.testing.assert_close(loss, torch.full((2,), 12 * math.log(2)))


def test_squared_error_is_half_the_sum() -> None:
    """Sigmoid of 0 is 0.5; against 1 each of the 12 values costs 0.5 * 0.25."""
    loss = reconstruction_loss(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2), "mse")
    torch.testing.assert_close(loss, torch.tensor([1.5]))


def test_cross_entropy_is_smallest_where_the_image_is_rebuilt() -> None:
    images = torch.full((1, 1, 1, 1), 0.3)
    best = reconstruction_loss(torch.logit(images), images)
    for other in (0.2, 0.4):
        assert reconstruction_loss(torch.logit(torch.full_like(images, other)), images) > best


def test_terms_of_the_bound_are_the_two_losses() -> None:
    output = VAEOutput(Posterior(torch.ones(2, 3), torch.zeros(2, 3)), torch.zeros(2, 3, 4, 4))
    reconstruction, kl = vae_loss_terms(output, torch.rand(2, 3, 4, 4), "bce")
    torch.testing.assert_close(reconstruction, torch.full((2,), 48 * math.log(2)))
    torch.testing.assert_close(kl, torch.full((2,), 1.5))
