"""Which latents to show, and what they say of an image: deviation, share, map, traversal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly_cli.drawing import LatentMaps
from anomaly_cli.errors import ConfigError
from anomaly_cli.files.images import ColourRange, resize_map
from anomaly_cli.fusion import Fusion, smooth
from anomaly_cli.maps import MapSpec
from models.appearance import KINDS
from models.config import SUMMED, Attention
from models.statistics import LatentStatistics
from models.vae import VAE

STEPS = (-3.0, -1.5, 0.0, 1.5, 3.0)  # of a traversal, in standard deviations of the normal images


def name_latents(kinds: Sequence[str]) -> str:
    """Such as `hole: z0, z3; stain: z1`, of the kind of defect that each latent answers to most."""
    numbers = {kind: [f"z{i}" for i, own in enumerate(kinds) if own == kind] for kind in kinds}
    return "; ".join(f"{kind}: {', '.join(numbers[kind])}" for kind in sorted(numbers))


class LatentSelection(NamedTuple):
    """What the user asked for: given latents, or the strongest ones."""

    indices: tuple[int, ...] = ()  # from 0, each once
    top: int | None = None  # how many of the strongest, instead of `indices`

    def choose(self, strengths: NDArray[np.floating]) -> list[int]:
        """Indices as given, or the `top` of strengths (D,), strongest first."""
        if self.top is None:
            return list(self.indices)
        return strongest(range(len(strengths)), strengths)[: self.top]


def strongest(latents: Sequence[int], strengths: NDArray[np.floating]) -> list[int]:
    """Latents by falling strength (D,); equal ones by their number."""
    return sorted(latents, key=lambda latent: (-strengths[latent], latent))


def select_latents(text: str, latent_dim: int, spec: MapSpec) -> LatentSelection:
    """Read `all`, `top:K` (at most K) or numbers such as `3,7`, for a map that has latents.

    Raises:
        ConfigError: it is none of these, a number is out of range, or the map has no latents.
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
    """What the highest value of an anomaly map is made of, before it was turned into scores."""

    row: int  # in pixels of the network's input
    column: int
    parts: tuple[float, ...]  # of a fused map, which is their sum, in the order of `Fusion`
    shares: NDArray[np.float64]  # (D,), of each latent in the attention there; sum 1, or NaN
    # Of each of `KINDS` in the parts of a fused map that are made of these, by source: (6,).
    kinds: Mapping[str, NDArray[np.float64]]

    def record(self) -> dict[str, Any]:
        """Plain JSON values."""
        place: dict[str, Any] = {"row": self.row, "column": self.column}
        place |= dict(zip(Fusion._fields, self.parts, strict=False))
        for source, of_kinds in self.kinds.items():
            shares = map(_finite, of_kinds.tolist())
            place[f"{source}_shares"] = dict(zip(KINDS, shares, strict=True))
        return place


class ImageLatents(NamedTuple):
    """What the D latents say of one image."""

    means: NDArray[np.float32]  # (D,), mu
    deviations: NDArray[np.float32]  # (D,), of mu from the normal images, in standard deviations
    shares: NDArray[np.float64]  # (D,), of the anomaly map's mass; sum 1, NaN if the map is zero
    maps: NDArray[np.float32]  # (D, h, w); their mean, enlarged, is the map of attention
    peak: Peak

    def record(self, latent: int) -> dict[str, float | None]:
        """The numbers of one latent as plain JSON values; undefined is null."""
        shares = {"share": self.shares, "share_at_peak": self.peak.shares}
        return {
            "latent": latent,
            "mean": float(self.means[latent]),
            "deviation": float(self.deviations[latent]),
            **{name: _finite(float(values[latent])) for name, values in shares.items()},
        }


def describe_latents(
    drawn: LatentMaps, statistics: LatentStatistics, smoothing: float
) -> list[ImageLatents]:
    """The latents of each image of a batch, whose maps were smoothed so.

    A latent deviates by (mu_i - m_i) / sqrt(v_i + sigma_i^2) standard deviations: the variance of
    the difference of two Gaussians, as in equation 5 of the paper.
    """
    mean, variance = (part.cpu() for part in statistics)
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
    """What is at the highest pixel, and the shares of what it is made of."""
    anomaly_map = drawn.anomaly_maps[place].numpy()
    row, column = (int(i) for i in np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape))

    def shares(maps: Tensor) -> NDArray[np.float64]:
        """Of maps (D, h, w) in their sum, each enlarged and smoothed as the anomaly map was."""
        enlarged = (resize_map(one, *anomaly_map.shape) for one in maps.numpy())
        values = np.array([smooth(one, smoothing)[row, column] for one in enlarged], float)
        total = values.sum()
        return values / total if total > 0 else np.full_like(values, np.nan)

    parts = tuple(float(part[place, row, column]) for part in drawn.parts)
    kinds = {source: shares(maps[place]) for source, maps in drawn.kind_maps.items()}
    return Peak(row, column, parts, shares(drawn.latent_maps[place]), kinds)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def latent_stretch(latent_dim: int) -> float:
    """How much wider the colour scale of one latent's map is than that of the anomaly map.

    The anomaly map is the mean of D latent maps. Were these independent, it would vary sqrt(D)
    times less than each of them, so one of them is as unusual sqrt(D) times as far above normal.
    Measured on MVTec bottle and on bricks: the hottest latent of a good image lies as high on this
    scale as its anomaly map does on its own (gradcam@layer4: 0.64 and 0.64 of the way to the
    middle, 0.72 and 0.58). Without stretching, every good part would glow in some latent; with D
    instead, no defect would show, as the strongest of 32 latents makes up a fifth of the map.
    """
    return math.sqrt(latent_dim)


def latent_colour_range(colour_range: ColourRange, latent_dim: int) -> ColourRange:
    """Ends of the colour bar of latent maps: a function of the model, not of an image."""
    low, high = colour_range
    return low, low + latent_stretch(latent_dim) * (high - low)


@torch.no_grad()
def traverse(
    vae: VAE, statistics: LatentStatistics, latents: Sequence[int], steps: Sequence[float] = STEPS
) -> NDArray[np.uint8]:
    """Decoded images (K, T, S, S, 3): each latent moved away from the mean of the normal images.

    z = m, but z_i = m_i + t sqrt(v_i) for each step t. At t = 0 all latents show the same image.
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
