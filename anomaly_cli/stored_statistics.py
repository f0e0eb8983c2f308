"""Statistics of normal images as the named tensors of a model file, and back."""

from torch import Tensor

from models.appearance import (
    KINDS,
    NEAR,
    WIDE,
    NormalAppearance,
    PlaceAppearance,
    count_statistics,
)
from models.config import OneClassConfig
from models.context import GRIDS, NormalContext
from models.mixture import Mixture
from models.statistics import LatentStatistics, LocalStatistics, NormalStatistics


def statistics_tensors(statistics: NormalStatistics) -> dict[str, Tensor]:
    """By name in a model file."""
    parts = {f"latent.{name}": part for name, part in statistics.latent._asdict().items()}
    for prefix, own in (
        ("local", statistics.local),
        ("half", statistics.half),
        ("appearance", statistics.appearance),
        *((f"context.{own.mean.shape[-1]}", own) for own in statistics.context),
    ):
        if own is not None:
            items = own._asdict().items()
            parts |= {f"{prefix}.{name}": part for name, part in items if part is not None}
    return {f"statistics.{name}": part for name, part in parts.items()}


def read_statistics(model: OneClassConfig, tensors: dict[str, Tensor]) -> NormalStatistics:
    """The inverse of `statistics_tensors`.

    Raises:
        KeyError: a tensor is missing.
        ValueError: one is of another shape than the network's.
    """
    latent = LatentStatistics(
        *(tensors[f"statistics.latent.{name}"] for name in LatentStatistics._fields)
    )
    local, half = (_read_local(model, tensors, f"statistics.{name}") for name in ("local", "half"))
    moments = [*latent, *(local or ())[:-1], *(half or ())[:-1]]
    if any(len(part) != model.latent_dim for part in moments):
        raise ValueError(f"statistics of {model.latent_dim} latents expected")
    if model.has_scales and half is None:
        raise KeyError("statistics.half.mean")
    context = tuple(_read_context(tensors, grid) for grid in GRIDS)
    return NormalStatistics(latent, local, half, _read_appearance(tensors), context)


def _read_context(tensors: dict[str, Tensor], grid: int) -> NormalContext:
    prefix = f"statistics.context.{grid}."
    seen = NormalContext(*(tensors[prefix + name] for name in NormalContext._fields))
    shape = (len(KINDS), grid, grid)
    of_places = (grid, grid, len(KINDS), len(KINDS))
    shapes = [shape, of_places, (seen.mean.numel(),) * 2, of_places]
    if [part.shape for part in seen] != shapes:
        raise ValueError(f"{prefix}: {' x '.join(map(str, shape))} values expected")
    return seen


def _read_appearance(tensors: dict[str, Tensor]) -> NormalAppearance:
    prefix = "statistics.appearance."
    kind = Mixture if f"{prefix}rarity" in tensors else PlaceAppearance
    seen = kind(*(tensors[prefix + name] for name in kind._fields))
    counts = [len(reaches) * len(KINDS) for reaches in (NEAR, WIDE)]
    grid = tuple(seen.mean.shape[:1] if isinstance(seen, Mixture) else seen.mean.shape[1:])
    count = count_statistics(seen) if seen.mean.dim() > 1 else 0
    if count not in counts or seen.whitening.shape != (*grid, count, count):
        raise ValueError(f"{' or '.join(map(str, counts))} statistics of appearance expected")
    if isinstance(seen, Mixture) and seen.rarity.shape != grid:
        raise ValueError(f"a rarity of each of {grid[0]} kinds of places expected")
    return seen


def _read_local(
    model: OneClassConfig, tensors: dict[str, Tensor], prefix: str
) -> LocalStatistics | None:
    if f"{prefix}.mean" not in tensors:
        return None
    *names, whitening = (f"{prefix}.{name}" for name in LocalStatistics._fields)
    moments = [tensors[name] for name in names]
    local = LocalStatistics(*moments, tensors.get(whitening))  # type: ignore[call-arg]
    square = (*local.mean.shape[1:], model.latent_dim, model.latent_dim)
    if local.whitening is not None and local.whitening.shape != square:
        raise ValueError(f"{whitening} of shape {square} expected")
    return local
