"""Fused maps: attention, appearance, context and error, in standard deviations of normal images.

    fused(p) = t c(z(log M(p))) + a c(z(log A(p))) + k c(z(log K(p)) / 2)
               + r c(z(log R(p)) / 2),  z(x) = (x - m(p)) / s(p)

M is the exact attention, A the appearance, K the context and R the reconstruction error, all
smoothed. m and s are the mean and standard deviation of the logarithm over normal images. They are
the same everywhere (`fused`), or differ from position to position (`fused_position`, for aligned
objects). `exact_covariance`, `exact_scales`, appearance and context are in units of their position
already; beside them only the error is scaled by position (`fused_covariance`, `fused_scales`).

Guided attention is calm and round, the error is sharp and noisy. All parts are skewed, and their
logarithms are not, so the logarithms can be added, as log-likelihood ratios of independent
measurements would be. The error counts half because it localizes worst, and the context counts
half because new normal images deviate from it most. The weights t, a, k and r in [0, 1] are found
with synthetic defects (`training.selection`). Beyond six standard deviations a part grows by its
logarithm alone (c, `compress`): a single part with an extreme value draws a halo around a defect,
and where all parts agree there is none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from anomaly_cli.detector.maps import PARTS, MapSpec, parts_of
from anomaly_cli.detector.normal.moments import Moments
from anomaly_cli.detector.scales import ScoreScale, pooled_scale, position_scale
from anomaly_cli.files.images import AnomalyMap

LINEAR_UP_TO = 6.0  # standard deviations, docs/decisions/0014

Scales = Mapping[str, ScoreScale]  # of the logarithms, by name in `PARTS`
Weights = Mapping[str, float]  # of finished parts, in [0, 1], by name in `PARTS`


class MapSettings(NamedTuple):
    """Smoothing, scales and weights that turn computed maps of a model into finished ones."""

    smoothing: float = 0.0  # standard deviation of a Gaussian, in pixels of the network's input
    fusions: Mapping[str, Scales] = {}  # by source of a fused map
    weights: Mapping[str, Weights] = {}  # by source of a fused map; all 1 where there is none


def scale_parts(maps: Sequence[AnomalyMap], scales: Scales) -> tuple[AnomalyMap, ...]:
    """Compute the unweighted terms of a fused map from its smoothed parts.

    Args:
        maps: shape (S, S) each, in the order of the scales.
        scales: of the fused map.
    """
    return tuple(
        compress(np.float32(PARTS[name].weight) * scales[name](np.log(own + PARTS[name].floor)))
        for name, own in zip(scales, maps, strict=True)
    )


def compress(scores: AnomalyMap) -> AnomalyMap:
    """Keep a score x up to a = `LINEAR_UP_TO`; beyond, a + a log(x / a). The slope has no jump."""
    beyond = scores > LINEAR_UP_TO  # few pixels as a rule; logarithms take most of the time
    compressed = scores.copy()
    compressed[beyond] = LINEAR_UP_TO + LINEAR_UP_TO * np.log(scores[beyond] / LINEAR_UP_TO)
    return compressed


def smooth(anomaly_map: AnomalyMap, sigma: float) -> AnomalyMap:
    """Blur a map (H, W) with a Gaussian; at the border it is mirrored."""
    if sigma == 0:
        return anomaly_map
    return np.asarray(cv2.GaussianBlur(anomaly_map, (0, 0), sigma), np.float32)


def by_image(
    computed: Mapping[MapSpec, Iterable[AnomalyMap]], spec: MapSpec
) -> Iterator[dict[MapSpec, AnomalyMap]]:
    """Regroup N maps (S, S) of each part into the parts of a spec for each of N images."""
    for of_image in zip(*(computed[part] for part in spec.parts), strict=True):
        yield dict(zip(spec.parts, of_image, strict=True))


def finish_parts(
    computed: Mapping[MapSpec, AnomalyMap], spec: MapSpec, settings: MapSettings
) -> tuple[AnomalyMap, ...]:
    """Smooth, scale and weigh the parts (S, S) of a spec; the map is their sum."""
    parts = tuple(smooth(computed[part], settings.smoothing) for part in spec.parts)
    if not spec.is_fused:
        return parts
    scaled = scale_parts(parts, settings.fusions[spec.source])
    full = dict.fromkeys(spec.part_names, 1.0)
    return weigh_parts(scaled, settings.weights.get(spec.source, full))


def weigh_parts(parts: Sequence[AnomalyMap], weights: Weights) -> tuple[AnomalyMap, ...]:
    """Multiply the parts of a fused map (S, S), in the order of the weights, by these."""
    return tuple(np.float32(w) * p for w, p in zip(weights.values(), parts, strict=True))


def add_parts(parts: Sequence[AnomalyMap]) -> AnomalyMap:
    """Add the parts (S, S) of a map."""
    first, *rest = parts
    return sum(rest, first)


def finish_map(
    computed: Mapping[MapSpec, AnomalyMap], spec: MapSpec, settings: MapSettings
) -> AnomalyMap:
    """Smooth and fuse the parts (S, S) of a spec into its map."""
    return add_parts(finish_parts(computed, spec, settings))


def fit_fusions(
    components: Callable[[Tensor, Sequence[MapSpec]], Mapping[MapSpec, Tensor]],
    batches: Iterable[Tensor],
    held_out: Iterable[Tensor],
    specs: Sequence[MapSpec],
    smoothings: Sequence[float],
    grid: int,
) -> dict[float, dict[str, Scales]]:
    """Fit the scales of fused maps for each smoothing, in one pass over normal images.

    Args:
        components: images (B, 3, S, S) and `specs` -> unsmoothed maps (B, S, S) of all parts.
        batches: normal images that the model was fitted to.
        held_out: other normal images, for parts whose scales are fitted on these.
        specs: fused maps.
        smoothings: standard deviations in pixels, to be compared.
        grid: side at which scales by position are kept.

    Returns:
        By smoothing, then by source of the fused map.
    """
    names = {
        part: name for spec in specs for name, part in zip(spec.part_names, spec.parts, strict=True)
    }
    moments = {(sigma, part): Moments() for sigma in smoothings for part in names}
    parts = parts_of(specs)
    late = [part for part in parts if PARTS[names[part]].is_fitted_on_held_out]
    early = [part for part in parts if part not in late]
    for computed in chain(
        (components(images, early) for images in batches),
        (components(images, late) for images in held_out),
    ):
        for sigma, (part, maps) in product(smoothings, computed.items()):
            floor = PARTS[names[part]].floor
            small = [_small_log(smooth(m, sigma), floor, grid) for m in maps.numpy()]
            moments[sigma, part].add(torch.from_numpy(np.stack(small)))
    return {
        sigma: {
            spec.source: {
                name: _fit_scale(moments[sigma, part], spec, name)
                for name, part in zip(spec.part_names, spec.parts, strict=True)
            }
            for spec in specs
        }
        for sigma in smoothings
    }


def _small_log(anomaly_map: AnomalyMap, floor: float, grid: int) -> AnomalyMap:
    logs = np.log(anomaly_map + floor)
    return np.asarray(cv2.resize(logs, (grid, grid), interpolation=cv2.INTER_AREA), np.float32)


def _fit_scale(moments: Moments, fused: MapSpec, part: str) -> ScoreScale:
    mean, square = moments.mean.numpy(), moments.mean_square.numpy()
    if part in fused.definition.by_position:
        return position_scale(mean, moments.variance.numpy(), moments.count)
    return pooled_scale(mean.mean(keepdims=True), square.mean(keepdims=True))
