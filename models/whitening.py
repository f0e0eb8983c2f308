"""Decorrelation of the values at each place."""

import torch
from torch import Tensor

_SMALLEST_EIGENVALUE = 1e-3  # of a correlation matrix, where values are copies of each other
_SMALLEST_VARIANCE = 1e-12  # of a constant value


def whitening_of(covariance: Tensor) -> Tensor:
    """Compute T = P^(-1/2) V^(-1/2) of covariances V^(1/2) P V^(1/2), shape (..., D, D).

    V holds the variances and P the correlations. T d has unit covariance, and of all such vectors
    it is closest to the standardised d (Kessy, Lewin and Strimmer 2018, "ZCA-cor").
    """
    scale = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(_SMALLEST_VARIANCE).rsqrt()
    correlation = covariance * scale[..., :, None] * scale[..., None, :]
    values, vectors = torch.linalg.eigh(correlation)
    roots = values.clamp_min(_SMALLEST_EIGENVALUE).rsqrt()
    whitening: Tensor = (vectors * roots[..., None, :]) @ vectors.mT * scale[..., None, :]
    return whitening


def decorrelate(deviation: Tensor, whitening: Tensor) -> Tensor:
    """Compute u(p) = T(p) d(p) at every place p.

    Each place takes one matrix product, with the images as columns side by side. An einsum over
    the same tensors copies each matrix first, and takes 2 to 4 times as long.

    Args:
        deviation: d, shape (B, D, h, w).
        whitening: T, shape (h, w, D, D).

    Returns:
        u, shape (B, D, h, w).
    """
    columns = deviation.permute(2, 3, 1, 0).contiguous()  # (h, w, D, B)
    return (whitening @ columns).permute(3, 2, 0, 1)
