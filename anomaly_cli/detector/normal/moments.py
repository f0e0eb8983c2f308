"""Streamed means, variances and covariances over images, in float64."""

import torch
from torch import Tensor

from models.config import keeps_covariance
from models.whitening import whitening_of


class Moments:
    """Mean and variance over images, in float64 on the CPU."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.sum_of_squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Add the values of a batch, (B, ...)."""
        values = values.detach().double().cpu()
        self.count += len(values)
        self.sum = self.sum + values.sum(dim=0)
        self.sum_of_squares = self.sum_of_squares + values.square().sum(dim=0)

    @property
    def mean(self) -> Tensor:
        """Mean over images, (...)."""
        return torch.as_tensor(self.sum) / self.count

    @property
    def mean_square(self) -> Tensor:
        """Mean of the squares over images, (...)."""
        return torch.as_tensor(self.sum_of_squares) / self.count

    @property
    def variance(self) -> Tensor:
        """Variance over images, (...); not negative."""
        return (self.mean_square - self.mean.square()).clamp_min(0.0)


class LocalMoments:
    """Moments of values at each position, and covariances if these are small enough to keep."""

    def __init__(self) -> None:
        self.moments = Moments()
        self._products: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Add the values of a batch of images, shape (B, D, h, w)."""
        self.moments.add(values)
        if keeps_covariance(values.shape[1], values[0, 0].numel()):
            of_batch = _products(values)
            self._products = of_batch if self._products is None else self._products + of_batch

    def whitening(self, *, noise: float = 0.0) -> Tensor | None:
        """Compute the matrices that decorrelate the values at each position.

        A few hundred images do not determine 32 x 32 covariances. So each matrix is mixed with
        the mean over positions, which counts as D + 1 images, the fewest that have an inverse.

        Args:
            noise: standard deviation that is added to each value.

        Returns:
            (h, w, D, D) float32; None where the covariances would be too large to keep.
        """
        if self._products is None:
            return None
        count = self.moments.count
        mean = self.moments.mean.permute(1, 2, 0)  # (h, w, D)
        own = self._products / count - mean[..., :, None] * mean[..., None, :]
        dimensions = own.shape[-1]
        common = own.mean(dim=(0, 1), keepdim=True)
        share = (dimensions + 1) / (count + dimensions + 1)
        mixed = (1 - share) * own + share * common
        mixed = mixed + noise**2 * torch.eye(dimensions, dtype=mixed.dtype)
        return whitening_of(mixed).float()


def _products(values: Tensor) -> Tensor:
    """Sum the products of each pair of values (B, D, h, w) over images: (h, w, D, D) float64."""
    columns = values.detach().double().cpu().permute(2, 3, 0, 1)  # (h, w, B, D)
    products: Tensor = columns.mT @ columns
    return products
