"""Attention, appearance, context and error in one map, in standard deviations of normal images.

    fused(p) = t c(z(log M(p))) + a c(z(log A(p))) + k c(z(log K(p)) / 2)
               + r c(z(log R(p)) / 2),  z(x) = (x - m(p)) / s(p)

M is the exact attention, A the appearance (`models.appearance`), K the context (`models.context`)
and R the reconstruction error, all smoothed; m and s are the mean and standard deviation of the
logarithm over normal images: the same everywhere (`fused`), or position by position
(`fused_position`, for aligned objects). With `exact_covariance` or `exact_scales`, which are in
units of their position already as appearance and context are, only the error is scaled position by
position (`fused_covariance`, `fused_scales`). The guided attention is calm and round, the error is
sharp and noisy; all are skewed, and their logarithms are not, which lets them be added. A sum of
log-likelihood ratios of independent witnesses would be added the same way. The error counts half,
because it is the worst witness of where a defect is, and the context, because it is the one that is
surprised most by new normal images. The trust t, a, k and r in [0, 1] is what drawn defects say
that each part can tell beside the others (`witnesses`). Beyond six standard deviations a part
counts by its logarithm alone (c, `compress`): a single witness that is beside itself draws a halo
around a defect, and where all agree there is none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from anomaly_cli.config.names import APPEARANCE, CONTEXT, RECONSTRUCTION
from anomaly_cli.files.images import AnomalyMap
from anomaly_cli.maps import FUSED_COVARIANCE, FUSED_POSITION, FUSED_SCALES, MapSpec, parts_of
from anomaly_cli.normality import Moments
from anomaly_cli.score_scales import ScoreScale, pooled_scale, position_scale

# Added before the logarithm, so that what is nothing in one image is not less in another. Distances
# are 1 on average in normal images, and guidance trains log(1 + M). Of the error it is 2.5 of 255
# grey levels: below lies noise, and not how well the image was rebuilt.
DISTANCE_FLOOR, ERROR_FLOOR = 1.0, 1e-2
ERROR_WEIGHT = 0.5  # docs/decisions/0011
CONTEXT_WEIGHT = 0.5  # docs/decisions/0018
LINEAR_UP_TO = 6.0  # standard deviations, docs/decisions/0014


class Fusion(NamedTuple):
    """The scales of the parts, of their logarithms."""

    attention: ScoreScale
    appearance: ScoreScale
    context: ScoreScale
    reconstruction: ScoreScale

    def parts(self, maps: Sequence[AnomalyMap]) -> tuple[AnomalyMap, ...]:
        """The terms of the fused map of smoothed maps (S, S), in the order of the scales."""
        attention, looks, context, error = maps
        return (
            compress(self.attention(np.log(attention + DISTANCE_FLOOR))),
            compress(self.appearance(np.log(looks + DISTANCE_FLOOR))),
            compress(np.float32(CONTEXT_WEIGHT) * self.context(np.log(context + DISTANCE_FLOOR))),
            compress(np.float32(ERROR_WEIGHT) * self.reconstruction(np.log(error + ERROR_FLOOR))),
        )


def compress(scores: AnomalyMap) -> AnomalyMap:
    """A score x up to a = `LINEAR_UP_TO`, and a + a log(x / a) beyond; the slope has no jump."""
    beyond = scores > LINEAR_UP_TO  # few pixels as a rule, and logarithms are what takes the time
    compressed = scores.copy()
    compressed[beyond] = LINEAR_UP_TO + LINEAR_UP_TO * np.log(scores[beyond] / LINEAR_UP_TO)
    return compressed


class Trust(NamedTuple):
    """Weights of the finished parts, in [0, 1]."""

    attention: float = 1.0
    appearance: float = 1.0
    context: float = 1.0
    reconstruction: float = 1.0


class MapSettings(NamedTuple):
    """What a model's maps went through after they were drawn."""

    smoothing: float = 0.0  # standard deviation of a Gaussian, in pixels of the network's input
    fusions: Mapping[str, Fusion] = {}  # by source of a fused map
    trusts: Mapping[str, Trust] = {}  # the same; full where there is none


def smooth(anomaly_map: AnomalyMap, sigma: float) -> AnomalyMap:
    """Blur a map (H, W) with a Gaussian; at the border it is mirrored."""
    if sigma == 0:
        return anomaly_map
    return np.asarray(cv2.GaussianBlur(anomaly_map, (0, 0), sigma), np.float32)


def by_image(
    drawn: Mapping[MapSpec, Iterable[AnomalyMap]], spec: MapSpec
) -> Iterator[dict[MapSpec, AnomalyMap]]:
    """The parts of a spec for each of N images, from N maps (S, S) of each part."""
    for of_image in zip(*(drawn[part] for part in spec.parts), strict=True):
        yield dict(zip(spec.parts, of_image, strict=True))


def finish_parts(
    drawn: Mapping[MapSpec, AnomalyMap], spec: MapSpec, settings: MapSettings
) -> tuple[AnomalyMap, ...]:
    """What adds up to the map (S, S) of a spec, smoothed, from its parts as they were drawn."""
    parts = tuple(smooth(drawn[part], settings.smoothing) for part in spec.parts)
    if not spec.is_fused:
        return parts
    finished = settings.fusions[spec.source].parts(parts)
    return weigh_parts(finished, settings.trusts.get(spec.source, Trust()))


def weigh_parts(parts: Sequence[AnomalyMap], trust: Trust) -> tuple[AnomalyMap, ...]:
    """The parts of a fused map (S, S), as far as each is trusted."""
    return tuple(np.float32(weight) * part for weight, part in zip(trust, parts, strict=True))


def add_parts(parts: Sequence[AnomalyMap]) -> AnomalyMap:
    """The anomaly map (S, S) that `finish_parts` has the parts of."""
    first, *rest = parts
    return sum(rest, first)


def finish_map(
    drawn: Mapping[MapSpec, AnomalyMap], spec: MapSpec, settings: MapSettings
) -> AnomalyMap:
    """The map (S, S) of a spec, smoothed and fused, from its parts as they were drawn."""
    return add_parts(finish_parts(drawn, spec, settings))


def fit_fusions(
    draw: Callable[[Tensor, Sequence[MapSpec]], Mapping[MapSpec, Tensor]],
    batches: Iterable[Tensor],
    held_out: Iterable[Tensor],
    specs: Sequence[MapSpec],
    smoothings: Sequence[float],
    grid: int,
) -> dict[float, dict[str, Fusion]]:
    """The scales of fused maps for each smoothing, from normal images in one pass.

    Those of the context are of images that it has not seen: it expects too much of the others.

    Args:
        draw: images (B, 3, S, S) and `specs` -> unsmoothed maps (B, S, S) of all their parts.
        batches: normal images that fit the model.
        held_out: others.
        specs: fused maps.
        smoothings: to be compared.
        grid: side at which scales per position are kept.

    Returns:
        By smoothing, then by source of the fused map.
    """
    parts = parts_of(specs)
    moments = {(sigma, part): Moments() for sigma in smoothings for part in parts}
    seen = [part for part in parts if part.source != CONTEXT]
    unseen = [part for part in parts if part.source == CONTEXT]
    for drawn in chain(
        (draw(images, seen) for images in batches), (draw(images, unseen) for images in held_out)
    ):
        for sigma, (part, maps) in product(smoothings, drawn.items()):
            floor = ERROR_FLOOR if part.source == RECONSTRUCTION else DISTANCE_FLOOR
            small = [_small_log(smooth(m, sigma), floor, grid) for m in maps.numpy()]
            moments[sigma, part].add(torch.from_numpy(np.stack(small)))
    return {
        sigma: {
            spec.source: Fusion(
                *(_fit_scale(moments[sigma, part], spec, part) for part in spec.parts)
            )
            for spec in specs
        }
        for sigma in smoothings
    }


def _small_log(anomaly_map: AnomalyMap, floor: float, grid: int) -> AnomalyMap:
    logs = np.log(anomaly_map + floor)
    return np.asarray(cv2.resize(logs, (grid, grid), interpolation=cv2.INTER_AREA), np.float32)


def _fit_scale(moments: Moments, fused: MapSpec, part: MapSpec) -> ScoreScale:
    mean, square = moments.mean.numpy(), moments.mean_square.numpy()
    # Appearance, context, and attention with covariances are in units of their position already.
    by_position = {
        FUSED_POSITION: part.source not in (APPEARANCE, CONTEXT),
        FUSED_COVARIANCE: part.source == RECONSTRUCTION,
        FUSED_SCALES: part.source == RECONSTRUCTION,
    }
    if by_position.get(fused.source, False):
        return position_scale(mean, moments.variance.numpy(), moments.count)
    return pooled_scale(mean.mean(keepdims=True), square.mean(keepdims=True))
