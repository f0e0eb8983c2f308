"""Values of each place freed of what they have in common there."""

import torch
from torch import Tensor

_SMALLEST_EIGENVALUE = 1e-3  # of a correlation matrix: values that copy each other
_SMALLEST_VARIANCE = 1e-12  # of a value that never moves


def whitening_of(covariance: Tensor) -> Tensor:
    """T = P^(-1/2) V^(-1/2) for covariances V^(1/2) P V^(1/2), shape (..., D, D).

    V holds the variances and P the correlations. T d has unit covariance, and its values are those
    that lie closest to the values of d (Kessy, Lewin and Strimmer 2018, "ZCA-cor").
    """
    scale = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(_SMALLEST_VARIANCE).rsqrt()
    correlation = covariance * scale[..., :, None] * scale[..., None, :]
    values, vectors = torch.linalg.eigh(correlation)
    roots = values.clamp_min(_SMALLEST_EIGENVALUE).rsqrt()
    whitening: Tensor = (vectors * roots[..., None, :]) @ vectors.mT * scale[..., None, :]
    return whitening


def decorrelate(deviation: Tensor, whitening: Tensor) -> Tensor:
    """u(p) = T(p) d(p) at every place p.

    A product of matrices for each place, of which the images are columns that lie side by side:
    einsum over the same tensors copies each matrix first, and takes 2 to 4 times as long.

    Args:
        deviation: d, shape (B, D, h, w).
        whitening: T, shape (h, w, D, D).

    Returns:
        u, shape (B, D, h, w).
    """
    columns = deviation.permute(2, 3, 1, 0).contiguous()  # (h, w, D, B)
    return (whitening @ columns).permute(3, 2, 0, 1)
