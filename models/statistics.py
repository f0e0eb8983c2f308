"""Statistics of the latents of normal images, with which those of new images are compared."""

from typing import NamedTuple

import torch
from torch import Tensor


class LatentStatistics(NamedTuple):
    """Moments of the aggregate posterior of normal images, by the law of total variance."""

    mean: Tensor  # (D,), E[mu]
    variance: Tensor  # (D,), E[sigma^2] + Var[mu]


class LocalStatistics(NamedTuple):
    """Statistics of the local latents z_i(p) of normal images, for the `exact` definitions."""

    mean: Tensor  # (D, h, w), over images
    variance: Tensor  # (D, h, w), over images
    pooled_mean: Tensor  # (D,), over images and positions
    pooled_variance: Tensor  # (D,)
    whitening: Tensor | None = None  # (h, w, D, D), T(p); None where it would be too large

    def to(self, device: torch.device) -> "LocalStatistics":
        """Copy to a device, as float32."""
        parts = (None if part is None else part.float().to(device) for part in self)
        return LocalStatistics(*parts)  # type: ignore[arg-type] # only the last may be None


class AttentionStatistics(NamedTuple):
    """Statistics of normal images that the definitions of attention need."""

    latent: LatentStatistics
    local: LocalStatistics | None = None  # None where the last activation is not pooled

    def to(self, device: torch.device) -> "AttentionStatistics":
        """Copy to a device, as float32."""
        latent = LatentStatistics(*(part.float().to(device) for part in self.latent))
        local = None if self.local is None else self.local.to(device)
        return AttentionStatistics(latent, local)
