"""Latents of images: the choice of some, their deviations, shares, maps and traversals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly_cli.detector.fusion import smooth
from anomaly_cli.detector.mapper import LatentMaps
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.normal.appearance import KINDS
from anomaly_cli.errors import ConfigError
from anomaly_cli.files.images import ColourRange
from anomaly_cli.files.resize import resize_map
from models.config import SUMMED, Attention
from models.statistics import LatentStatistics
from models.vae import VAE

STEPS = (-3.0, -1.5, 0.0, 1.5, 3.0)  # of a traversal, in standard deviations of the normal images


def name_latents(kinds: Sequence[str]) -> str:
    """List the latents that respond most to each kind of defect: `hole: z0, z3; stain: z1`.

    Args:
        kinds: kind of defect of each latent, (D,).
    """
    numbers = {kind: [f"z{i}" for i, own in enumerate(kinds) if own == kind] for kind in kinds}
    return "; ".join(f"{kind}: {', '.join(numbers[kind])}" for kind in sorted(numbers))


class LatentSelection(NamedTuple):
    """The user's choice of latents: given ones, or the strongest."""

    indices: tuple[int, ...] = ()  # from 0, each once
    top: int | None = None  # number of the strongest, instead of `indices`

    def choose(self, strengths: NDArray[np.floating]) -> list[int]:
        """List the given latents, or the `top` by strengths (D,), strongest first."""
        if self.top is None:
            return list(self.indices)
        return strongest(range(len(strengths)), strengths)[: self.top]


def strongest(latents: Sequence[int], strengths: NDArray[np.floating]) -> list[int]:
    """Sort latents by falling strength (D,); equally strong ones by their number."""
    return sorted(latents, key=lambda latent: (-strengths[latent], latent))


def select_latents(text: str, latent_dim: int, spec: MapSpec) -> LatentSelection:
    """Read a choice of latents: `all`, `top:K` (at most K) or numbers such as `3,7`.

    Args:
        text: the choice.
        latent_dim: number of latents.
        spec: the map, which must have latents.

    Raises:
        ConfigError: the text is none of these, a number is out of range, or the map has no
            latents.
    """
    if not spec.has_latents:
        names = [attention.value for attention in Attention if attention not in SUMMED]
        raise ConfigError(
            f"{spec} has no map for each latent; these have: --attention {', '.join(names)}"
        )
    kind, _, count = text.partition(":")
    try:
        if text == "all":
            return LatentSelection(tuple(range(latent_dim)))
        if kind == "top" and int(count) >= 1:
            return LatentSelection(top=min(int(count), latent_dim))
        indices = tuple(dict.fromkeys(int(part) for part in text.split(",")))
        if all(0 <= index < latent_dim for index in indices):
            return LatentSelection(indices)
    except ValueError:
        pass
    raise ConfigError(
        f"--latents {text} does not fit; use all, top:K with K from 1, or numbers from 0 to "
        f"{latent_dim - 1} such as 0,{latent_dim - 1}"
    )


class Peak(NamedTuple):
    """Composition of the highest value of an anomaly map, before it is turned into a score."""

    row: int  # in pixels of the network's input
    column: int
    parts: Mapping[str, float]  # by name, their sum is the value; empty if not fused
    shares: NDArray[np.float64]  # (D,), of each latent in the attention there; sum 1, or NaN
    # Shares (6,) of each of `KINDS` in the appearance there; None if it is no part.
    kinds: NDArray[np.float64] | None

    def record(self) -> dict[str, Any]:
        """List place, parts and shares of kinds as plain JSON values; undefined is null."""
        place: dict[str, Any] = {"row": self.row, "column": self.column}
        place |= self.parts
        if self.kinds is not None:
            shares = map(_finite, self.kinds.tolist())
            place["appearance_shares"] = dict(zip(KINDS, shares, strict=True))
        return place


class ImageLatents(NamedTuple):
    """Values, shares and maps of the D latents for one image."""

    means: NDArray[np.float32]  # (D,), mu
    deviations: NDArray[np.float32]  # (D,), of mu from normal images, in standard deviations
    shares: NDArray[np.float64]  # (D,), of the sum of the attention map; sum 1, NaN if it is 0
    maps: NDArray[np.float32]  # (D, h, w); their mean, enlarged, is the attention map
    peak: Peak

    def record(self, latent: int) -> dict[str, float | None]:
        """List the values of one latent as plain JSON values; undefined is null."""
        shares = {"share": self.shares, "share_at_peak": self.peak.shares}
        return {
            "latent": latent,
            "mean": float(self.means[latent]),
            "deviation": float(self.deviations[latent]),
            **{name: _finite(float(values[latent])) for name, values in shares.items()},
        }


NO_LATENTS = ImageLatents(  # of an image, where the method has none
    means=np.empty(0, np.float32),
    deviations=np.empty(0, np.float32),
    shares=np.empty(0),
    maps=np.empty((0, 1, 1), np.float32),
    peak=Peak(0, 0, {}, np.empty(0), None),
)


def describe_latents(drawn: LatentMaps, smoothing: float) -> list[ImageLatents]:
    """Compute the values, shares and maps of the latents for each image of a batch.

    A latent deviates by (mu_i - m_i) / sqrt(v_i + sigma_i^2) standard deviations. v_i + sigma_i^2
    is the variance of the difference of two Gaussians, as in equation 5 of the paper.

    Args:
        drawn: maps and posterior of the batch; `normal` holds the mean m and the variance v of
            the latents of normal images.
        smoothing: sigma of the Gaussian that smoothed the anomaly maps, in pixels.
    """
    mean, variance = (part.cpu() for part in drawn.normal)
    spread = (variance + drawn.posterior.logvar.exp()).sqrt()
    deviations = ((drawn.posterior.mu - mean) / spread).float().numpy()
    masses = drawn.latent_maps.double().sum(dim=(2, 3)).numpy()
    totals = masses.sum(axis=1, keepdims=True)
    shares = np.divide(masses, totals, out=np.full_like(masses, np.nan), where=totals > 0)
    means, maps = drawn.posterior.mu.numpy(), drawn.latent_maps.numpy()
    peaks = [_find_peak(drawn, place, smoothing) for place in range(len(maps))]
    columns = (means, deviations, shares, maps, peaks)
    return [ImageLatents(*of_image) for of_image in zip(*columns, strict=True)]


def _find_peak(drawn: LatentMaps, place: int, smoothing: float) -> Peak:
    """Find the highest pixel of the anomaly map of image number `place`, and its composition."""
    anomaly_map = drawn.anomaly_maps[place]
    row, column = (int(i) for i in np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape))

    def shares(maps: Tensor) -> NDArray[np.float64]:
        """Compute the share of each of D maps (D, h, w) in their sum at the highest pixel.

        Each map is enlarged and smoothed as the anomaly map was.
        """
        enlarged = (resize_map(one, *anomaly_map.shape) for one in maps.numpy())
        values = np.array([smooth(one, smoothing)[row, column] for one in enlarged], float)
        total = values.sum()
        return values / total if total > 0 else np.full_like(values, np.nan)

    parts = {name: float(part[place, row, column]) for name, part in drawn.parts.items()}
    kinds = None if drawn.kind_maps is None else shares(drawn.kind_maps[place])
    return Peak(row, column, parts, shares(drawn.latent_maps[place]), kinds)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def latent_stretch(latent_dim: int) -> float:
    """Compute the ratio of the colour range of one latent's map to that of the anomaly map.

    The anomaly map is the mean of D latent maps. If these were independent, it would vary sqrt(D)
    times less than each of them. So a latent map has to lie sqrt(D) times as far above its normal
    level to be as unusual.

    Measured on MVTec bottle and on bricks, the highest latent of a normal image lies as high on
    this scale as its anomaly map does on its own (gradcam@layer4: 0.64 and 0.64 of the way to the
    middle, 0.72 and 0.58). Without the factor, every normal part would glow in some latent. With a
    factor of D, no defect would show, because the strongest of 32 latents makes up a fifth of the
    map.
    """
    return math.sqrt(latent_dim)


def latent_colour_range(colour_range: ColourRange, latent_dim: int) -> ColourRange:
    """Compute the ends of the colour bar of latent maps from those of the anomaly map."""
    low, high = colour_range
    return low, low + latent_stretch(latent_dim) * (high - low)


@torch.no_grad()
def traverse(
    vae: VAE, statistics: LatentStatistics, latents: Sequence[int], steps: Sequence[float] = STEPS
) -> NDArray[np.uint8]:
    """Decode images while one latent at a time moves away from its mean over normal images.

    All latents have their mean m, except for z_i = m_i + t sqrt(v_i) at each step t. At t = 0 the
    image is the same for all latents.

    Args:
        vae: in eval mode.
        statistics: mean m and variance v of the latents of normal images.
        latents: numbers i of K latents.
        steps: T steps t, in standard deviations.

    Returns:
        Shape (K, T, S, S, 3).
    """
    mean, spread = statistics.mean, statistics.variance.sqrt()
    moves = torch.tensor(steps, device=mean.device, dtype=mean.dtype)
    frames = []
    for latent in latents:
        codes = mean.repeat(len(steps), 1)
        codes[:, latent] += moves * spread[latent]
        images = vae.decode(codes).mul(255).round().to(torch.uint8).expand(-1, 3, -1, -1)
        frames.append(images.permute(0, 2, 3, 1).cpu().numpy())
    return np.stack(frames)
