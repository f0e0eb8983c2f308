"""What attention knows of normal images."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from models.appearance import NormalAppearance
from models.context import NormalContext


class LatentStatistics(NamedTuple):
    """Aggregate posterior of the normal images, moment-matched by the law of total variance."""

    mean: Tensor  # (D,), E[mu]
    variance: Tensor  # (D,), E[sigma^2] + Var[mu]


class LocalStatistics(NamedTuple):
    """Local latents z_i(p) of the normal images, for the definitions `exact`."""

    mean: Tensor  # (D, h, w), over images
    variance: Tensor  # (D, h, w), over images
    pooled_mean: Tensor  # (D,), over images and positions
    pooled_variance: Tensor  # (D,)
    whitening: Tensor | None = None  # (h, w, D, D), T(p); None where it would be too large


class NormalStatistics(NamedTuple):
    """What attention knows of normal images."""

    latent: LatentStatistics
    local: LocalStatistics | None = None  # None where the last activation is not pooled
    half: LocalStatistics | None = None  # of images at half their side; None without `exact_scales`
    appearance: NormalAppearance | None = None  # None: no map of it is drawn
    context: Sequence[NormalContext] = ()  # of each grid; none: no map of it is drawn
