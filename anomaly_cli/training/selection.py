"""Choose a model's map without a label, by synthetic defects in held-out normal images.

Chosen are: what appearance is compared with, the weights of the parts of fused maps, the map, and
how much it is smoothed.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from anomaly_cli.config.names import APPEARANCE, MEMORY
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.fusion import (
    MapSettings,
    Weights,
    add_parts,
    by_image,
    finish_map,
    finish_parts,
    fit_fusions,
    weigh_parts,
)
from anomaly_cli.detector.mapper import AnomalyMapper, map_images
from anomaly_cli.detector.maps import (
    ATTENTION,
    PARTS,
    MapSpec,
    candidate_maps,
    fuse_with,
    map_specs,
)
from anomaly_cli.detector.normal.appearance import (
    WAYS,
    NormalAppearance,
    Way,
    appearance_map,
    fit_appearance,
)
from anomaly_cli.files.images import AnomalyMap
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.painted import PaintedImage, painted_batches
from anomaly_cli.training.scoring import MARGIN, NARROW_MARGIN, DefectScore, score_maps
from models.config import Attention

SMOOTHINGS = (0.0, 1 / 128, 1 / 64, 1 / 32)  # tried with guidance, as shares of the image's side
POWERS = (1, 2, 4, 8)  # of distances, tried for the weights of parts
_REFERENCES = (ATTENTION, APPEARANCE, MEMORY)  # the better of these parts has the weight 1


class AppearanceChoice(NamedTuple):
    """The chosen model of the appearance of normal images, and the score of each way."""

    way: str
    normal: NormalAppearance
    scores: dict[str, DefectScore]  # by way, on the synthetic defects; empty if there are none


def choose_appearance(images: TrainingSet, *, batch_size: int) -> AppearanceChoice:
    """Choose the first of the `WAYS` that is as good as the best, within `NARROW_MARGIN`.

    Without synthetic defects the first way is taken.
    """

    def fit(way: Way) -> NormalAppearance:
        return fit_appearance(way, lambda: images.fit.batches(batch_size), len(images.fit))

    if not images.validation:
        first = next(iter(WAYS))
        return AppearanceChoice(first, fit(WAYS[first]), {})
    fitted, scores = {}, {}
    for name, way in WAYS.items():
        fitted[name] = normal = fit(way)
        batches = painted_batches(images.validation, batch_size)
        maps = (one for batch in batches for one in appearance_map(batch, normal).numpy())
        scores[name] = score_maps(maps, images.validation)
    enough = max(row.mean for row in scores.values()) - NARROW_MARGIN
    best = next(name for name in WAYS if scores[name].mean >= enough)
    return AppearanceChoice(best, fitted[best], scores)


def describe_appearance(choice: str, scores: Mapping[str, Mapping[str, float]]) -> str:
    """Describe the chosen way, and the score of it and the others.

    Args:
        choice: a key of `WAYS`.
        scores: a `DefectScore` of each way, as plain values.
    """
    means = {name: DefectScore(**row).mean for name, row in scores.items()}
    others = ", ".join(f"{WAYS[name].words} {means[name]:.3f}" for name in means if name != choice)
    return (
        f"{WAYS[choice].words} of normal images "
        f"(mean AUROC on synthetic defects {means[choice]:.3f}; {others})"
    )


class SelectedMap(NamedTuple):
    """The chosen map, and the score of each candidate."""

    spec: MapSpec
    settings: MapSettings
    scores: dict[str, DefectScore]  # by name of the map and smoothing, on the synthetic defects


def choose_map(mapper: AnomalyMapper, images: TrainingSet, config: TrainConfig) -> SelectedMap:
    """Choose the map that is best on synthetic defects; without any, the first candidate."""
    candidates, settings = _candidates(config), _settings(mapper, images, config)
    if not images.validation:
        return SelectedMap(candidates[0], settings[0], {})
    return select_map(
        mapper,
        candidates,
        settings,
        images.validation,
        batch_size=config.batch_size,
        favoured=favoured_maps(config),
    )


def favoured_maps(config: TrainConfig) -> tuple[MapSpec, ...]:
    """List the maps that are preferred where the difference is small.

    Guided attention has learned from synthetic defects, so it scores too well on them beside
    appearance and error, which have not. Most of these defects are small, and real ones need not
    be. So a fused map is preferred. A network that was not trained on images of half the side makes
    wide halos there, so its fused map of two sizes is not preferred.
    """
    if config.guidance != "synthetic":
        return ()
    own = Attention.EXACT_SCALES if config.half_size else Attention.EXACT_COVARIANCE
    return (fuse_with(MapSpec(own.value, config.model.layers[-1]), memory=config.model.has_memory),)


def _candidates(config: TrainConfig) -> list[MapSpec]:
    """List the maps to choose from.

    If the user named a definition or a layer, these are its maps of attention. Otherwise they are
    the fused maps and their attention parts, which guidance trains, or without guidance all maps
    of attention at the last layer.
    """
    if config.guidance == "none" or config.attention is not None or config.layer is not None:
        return candidate_maps(config.network, config.attention, config.layer)
    fused = [spec for spec in map_specs(config.network) if spec.is_fused]
    return list(dict.fromkeys([*fused, *(spec.parts[0] for spec in fused)]))


def _settings(mapper: AnomalyMapper, images: TrainingSet, config: TrainConfig) -> list[MapSettings]:
    """List every smoothing to choose from, with the scales that fused maps have under it."""
    shares = SMOOTHINGS if config.guidance == "synthetic" else (0.0,)
    smoothings = [share * config.model.image_size for share in shares]
    specs = [spec for spec in map_specs(config.network) if spec.is_fused]
    if not specs:
        return [MapSettings(sigma) for sigma in smoothings]
    grid = config.model.image_size // config.model.stride(config.model.layers[-1])
    fit, held_out = (part.batches(config.batch_size) for part in (images.fit, images.held_out))
    fusions = fit_fusions(mapper.components, fit, held_out, specs, smoothings, grid)
    return [MapSettings(sigma, fusions[sigma]) for sigma in smoothings]


def select_map(
    mapper: AnomalyMapper,
    specs: Sequence[MapSpec],
    settings: Sequence[MapSettings],
    validation: Sequence[PaintedImage],
    *,
    batch_size: int,
    favoured: Collection[MapSpec] = (),
    margin: float = MARGIN,
) -> SelectedMap:
    """Select the map with the highest mean of pixel and image AUROC on synthetic defects.

    Of equally good maps the first is taken. The best favoured map is taken unless another one is
    better by more than a margin.

    Args:
        mapper: computes the maps.
        specs: maps to choose from.
        settings: smoothings and scales, each tried with every map. The weights of the parts of
            fused maps are found here.
        validation: held-out normal images with and without a synthetic defect.
        batch_size: images at once.
        favoured: some of `specs`.
        margin: difference of the mean of both AUROCs.
    """
    computed = map_images(mapper.components, painted_batches(validation, batch_size), specs)
    # The weights are found with unsmoothed parts, because smoothing hardly changes them.
    weights = {
        spec.source: choose_weights(computed, spec, settings[0], validation)
        for spec in specs
        if spec.is_fused
    }
    settings = [setting._replace(weights=weights) for setting in settings]
    scores: dict[str, DefectScore] = {}
    found: list[tuple[DefectScore, MapSpec, MapSettings]] = []
    for spec, setting in product(specs, settings):
        maps = (finish_map(parts, spec, setting) for parts in by_image(computed, spec))
        score = score_maps(maps, validation)  # one candidate at a time, to save memory
        scores[f"{spec}, smoothing {setting.smoothing:g} px"] = score
        found.append((score, spec, setting))
    best = max(found, key=lambda row: row[0].mean)
    own = [row for row in found if row[1] in favoured]
    preferred = max(own, key=lambda row: row[0].mean, default=best)
    if preferred[0].mean >= best[0].mean - margin:
        best = preferred
    return SelectedMap(best[1], best[2], scores)


def choose_weights(
    computed: Mapping[MapSpec, Sequence[AnomalyMap]],
    spec: MapSpec,
    settings: MapSettings,
    validation: Sequence[PaintedImage],
) -> Weights:
    """Choose the weight of each part of a fused map, in [0, 1].

    Independent Gaussian scores are best added in proportion to the distance d between their normal
    and anomalous values, in standard deviations: `DefectScore.distance`. Real scores are neither
    independent nor Gaussian, and beside a much better part a worse one may add nothing but noise.
    So powers of the distances are tried, and the lowest that is as good as the best is taken.

    Args:
        computed: N raw maps (S, S) of each part.
        spec: the fused map.
        settings: with its scales.
        validation: the N images, with and without a synthetic defect.
    """
    images = [finish_parts(parts, spec, settings) for parts in by_image(computed, spec)]
    distances = [score_maps(maps, validation).distance for maps in zip(*images, strict=True)]
    own = dict(zip(spec.part_names, distances, strict=True))
    candidates = [weights_by_distance(own, power) for power in POWERS]
    means = [
        score_maps((add_parts(weigh_parts(parts, each)) for parts in images), validation).mean
        for each in candidates
    ]
    is_good = [mean >= max(means) - NARROW_MARGIN for mean in means]
    return candidates[is_good.index(True)]


def weights_by_distance(distances: Mapping[str, float], power: int) -> Weights:
    """Compute weights in proportion to a power of the distances of the parts.

    The best of attention, appearance and memory has the weight 1. Parts with a smaller weight in
    `PARTS` may count in full, and no more. So their weight is enlarged, up to 1, after the power is
    taken: before it, a part that counts twice over would hardly be turned down.

    Args:
        distances: `DefectScore.distance` by name of the part.
        power: of the distances.
    """
    best = max(distances[name] for name in _REFERENCES if name in distances)
    if best == 0:
        return dict.fromkeys(distances, 1.0)
    return {
        name: (distance / best) ** power
        if name in _REFERENCES
        else min((distance / best) ** power / PARTS[name].weight, 1.0)
        for name, distance in distances.items()
    }
