"""Fused maps: memory, appearance and attention, in standard deviations of normal images.

    fused(p) = z(log M(p)) + z(log A(p)) + z(log T(p)) / 2,  z(x) = (x - m) / s

M is the distance from the nearest normal patch, A the appearance and T the exact attention, all
smoothed. m and s are the mean and standard deviation of the logarithm over all pixels of held-out
normal images. All parts are skewed, and their logarithms are not, so the logarithms can be added,
as log-likelihood ratios of independent measurements would be. Attention counts half, because it has
learned from drawn defects, which real ones need not resemble (docs/decisions/0021).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np

from anomaly_cli.detector.maps import PARTS, MapSpec
from anomaly_cli.detector.scales import ScoreScale, score_scale
from anomaly_cli.files.images import AnomalyMap

SMOOTHING = 1 / 128  # of guided models: standard deviation of a Gaussian in sides of the image

Scales = Mapping[str, ScoreScale]  # of the logarithms, by name in `PARTS`


class MapSettings(NamedTuple):
    """Smoothing and scales that turn computed maps of a model into finished ones."""

    smoothing: float = 0.0  # standard deviation of a Gaussian, in pixels of the network's input
    scales: Scales = MappingProxyType({})  # of the parts of the fused map


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
    """Smooth and scale the parts (S, S) of a spec; the map is their sum."""
    parts = tuple(smooth(computed[part], settings.smoothing) for part in spec.parts)
    if not spec.is_fused:
        return parts
    return tuple(
        np.float32(PARTS[name].weight) * settings.scales[name](_logarithm(own, name))
        for name, own in zip(spec.part_names, parts, strict=True)
    )


def add_parts(parts: Sequence[AnomalyMap]) -> AnomalyMap:
    """Add the parts (S, S) of a map."""
    first, *rest = parts
    return sum(rest, first)


def finish_map(
    computed: Mapping[MapSpec, AnomalyMap], spec: MapSpec, settings: MapSettings
) -> AnomalyMap:
    """Smooth and fuse the parts (S, S) of a spec into its map."""
    return add_parts(finish_parts(computed, spec, settings))


def fit_scales(
    computed: Mapping[MapSpec, Sequence[AnomalyMap]], spec: MapSpec, smoothing: float
) -> Scales:
    """Fit the scales of the parts of a fused map to held-out normal images.

    Args:
        computed: N unsmoothed maps (S, S) of each part.
        spec: the fused map.
        smoothing: standard deviation of the Gaussian, in pixels.
    """
    scales = {}
    for name, part in zip(spec.part_names, spec.parts, strict=True):
        logs = [_logarithm(smooth(own, smoothing), name) for own in computed[part]]
        mean = np.mean([log.mean(dtype=np.float64) for log in logs])
        square = np.mean([np.square(log - mean).mean(dtype=np.float64) for log in logs])
        scales[name] = score_scale(np.full((1, 1), mean), np.full((1, 1), square))
    return scales


def _logarithm(anomaly_map: AnomalyMap, part: str) -> AnomalyMap:
    return np.asarray(np.log(anomaly_map + np.float32(PARTS[part].floor)), np.float32)
