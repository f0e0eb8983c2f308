"""What is known of normal images: moments of their latents, and scales of their maps."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from models.activations import Encoder, activate, local_latents
from models.appearance import PlaceAppearance, appearance
from models.config import keeps_covariance
from models.heads import PooledHead
from models.statistics import LatentStatistics, LocalStatistics, NormalStatistics
from models.whitening import whitening_of

APPEARANCE_NOISE = 1e-3  # standard deviation: a quarter of a grey level tells nothing


@torch.no_grad()
def normal_statistics(
    encoder: Encoder, batches: Iterable[Tensor], *, with_half: bool = False
) -> NormalStatistics:
    """Statistics of normal images (B, 3, S, S), streamed in float64, on the CPU.

    The aggregate posterior follows the law of total variance: its variance is
    E[sigma^2] + Var[mu], not the mean of the variances.

    Args:
        encoder: in eval mode.
        batches: the images.
        with_half: also those of the images at half their side, for `exact_scales`.
    """
    layer = encoder.layers[-1]
    is_pooled = isinstance(encoder.closed_head(layer), PooledHead)
    device = encoder.mu.weight.device
    mu, spread = Moments(), Moments()
    local, half = _LocalMoments(), _LocalMoments()
    for batch in batches:
        images = batch.to(device)
        activation = activate(encoder, images, layer, with_half=with_half)
        mu.add(activation.posterior.mu)
        spread.add(activation.posterior.logvar.exp())
        if is_pooled:
            local.add(local_latents(activation))
        if activation.half is not None:
            half.add(local_latents(activation.half))
    latent = LatentStatistics(mu.mean, spread.mean + mu.variance)
    if not is_pooled:
        return NormalStatistics(latent)
    small = half.statistics() if with_half else None
    return NormalStatistics(latent, local.statistics(), small)


def place_appearance(batches: Iterable[Tensor], reaches: Sequence[int]) -> PlaceAppearance:
    """How normal images (B, 3, S, S) look at each place; `reaches` as in `appearance`."""
    looks = _LocalMoments()
    for images in batches:
        looks.add(appearance(images, reaches))
    return looks.appearance()


class _LocalMoments:
    """Moments of local latents, and their covariances at each position where they are kept."""

    def __init__(self) -> None:
        self.moments = Moments()
        self.products: Tensor | None = None

    def add(self, latents: Tensor) -> None:
        """Local latents of a batch, (B, D, h, w)."""
        self.moments.add(latents)
        if keeps_covariance(latents.shape[1], latents[0, 0].numel()):
            of_batch = _products(latents)
            self.products = of_batch if self.products is None else self.products + of_batch

    def statistics(self) -> LocalStatistics:
        """Of all batches."""
        local = self.moments
        pooled_mean = local.mean.mean(dim=(1, 2))
        pooled_variance = local.mean_square.mean(dim=(1, 2)) - pooled_mean.square()
        return LocalStatistics(
            local.mean.float(),
            local.variance.float(),
            pooled_mean.float(),
            pooled_variance.float(),
            None if self.products is None else _whitening(local, self.products),
        )

    def appearance(self) -> PlaceAppearance:
        """Of all batches, where what was added is the appearance of images."""
        assert self.products is not None  # noqa: S101 - 12 statistics on 64 x 64 places are few
        whitening = _whitening(self.moments, self.products, noise=APPEARANCE_NOISE)
        return PlaceAppearance(self.moments.mean.float(), whitening)


def _products(latents: Tensor) -> Tensor:
    """Of each pair of latents (B, D, h, w), summed over images: (h, w, D, D) float64."""
    values = latents.detach().double().cpu().permute(2, 3, 0, 1)  # (h, w, B, D)
    products: Tensor = values.mT @ values
    return products


def _whitening(local: "Moments", products: Tensor, *, noise: float = 0.0) -> Tensor:
    """What decorrelates the local latents at each position, (h, w, D, D) float32.

    A few hundred images do not tell 32 x 32 covariances: each matrix is mixed with the mean over
    positions, which counts as D + 1 images, the least that has an inverse. `noise` is a standard
    deviation that each value has besides.
    """
    mean = local.mean.permute(1, 2, 0)  # (h, w, D)
    own = products / local.count - mean[..., :, None] * mean[..., None, :]
    dimensions = own.shape[-1]
    common = own.mean(dim=(0, 1), keepdim=True)
    share = (dimensions + 1) / (local.count + dimensions + 1)
    mixed = (1 - share) * own + share * common
    mixed = mixed + noise**2 * torch.eye(dimensions, dtype=mixed.dtype)
    return whitening_of(mixed).float()


class Moments:
    """Mean and variance over images, in float64 on the CPU."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.sum_of_squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Values of a batch, (B, ...)."""
        values = values.detach().double().cpu()
        self.count += len(values)
        self.sum = self.sum + values.sum(dim=0)
        self.sum_of_squares = self.sum_of_squares + values.square().sum(dim=0)

    @property
    def mean(self) -> Tensor:
        """Over images, (...)."""
        return torch.as_tensor(self.sum) / self.count

    @property
    def mean_square(self) -> Tensor:
        """Over images, (...)."""
        return torch.as_tensor(self.sum_of_squares) / self.count

    @property
    def variance(self) -> Tensor:
        """Over images, (...); not negative."""
        return (self.mean_square - self.mean.square()).clamp_min(0.0)
