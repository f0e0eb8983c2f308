"""Choose a model's map without a label, by synthetic defects in held-out normal images.

Chosen are what appearance is compared with and, for a model without guidance, the definition of
attention.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from anomaly_cli.config.names import MEMORY
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.fusion import SMOOTHING, MapSettings, by_image, finish_map, fit_scales
from anomaly_cli.detector.mapper import AnomalyMapper, map_images
from anomaly_cli.detector.maps import MapSpec, candidate_maps, fused_map
from anomaly_cli.detector.normal.appearance import (
    WAYS,
    NormalAppearance,
    Way,
    appearance_map,
    fit_appearance,
)
from anomaly_cli.detector.together import in_shares
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.painted import PaintedImage, painted_batches
from anomaly_cli.training.scoring import MARGIN, DefectScore, score_maps


class AppearanceChoice(NamedTuple):
    """The chosen model of the appearance of normal images, and the score of each way."""

    way: str
    normal: NormalAppearance
    scores: dict[str, DefectScore]  # by way, on the synthetic defects; empty if there are none


def choose_appearance(images: TrainingSet, *, batch_size: int) -> AppearanceChoice:
    """Choose the first of the `WAYS` that is as good as the best, within `MARGIN`.

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
        of_batches = in_shares(partial(appearance_map, normal=normal), batches)
        maps = (one for of_batch in of_batches for one in of_batch.numpy())
        scores[name] = score_maps(maps, images.validation)
    enough = max(row.mean for row in scores.values()) - MARGIN
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
    scores: dict[str, DefectScore]  # by name of the map, on the synthetic defects; empty: no choice


def choose_map(mapper: AnomalyMapper, images: TrainingSet, config: TrainConfig) -> SelectedMap:
    """Choose the map of a model.

    With guidance it is the fused map, or the memory alone where images are few: the other parts
    cannot be calibrated on images that they were fitted to. Without guidance, or if the user named
    a definition or a layer, it is the map of attention that is best on synthetic defects, or the
    first one if there are none.
    """
    settings, fused = _fit_settings(mapper, images, config), fused_map(config.network)
    is_named = config.attention is not None or config.layer is not None
    if images.split.is_few and not is_named:
        return SelectedMap(MapSpec(MEMORY), settings, {})
    if config.guidance == "synthetic" and fused is not None and not is_named:
        return SelectedMap(fused, settings, {})
    candidates = candidate_maps(config.network, config.attention, config.layer)
    if not images.validation:
        return SelectedMap(candidates[0], settings, {})
    return select_map(mapper, candidates, settings, images.validation, batch_size=config.batch_size)


def _fit_settings(mapper: AnomalyMapper, images: TrainingSet, config: TrainConfig) -> MapSettings:
    """Fix the smoothing, and fit the scales of the fused map to the held-out images."""
    is_guided = config.guidance == "synthetic"
    smoothing = SMOOTHING * config.model.image_size if is_guided else 0.0
    fused = fused_map(config.network)
    if fused is None:
        return MapSettings(smoothing)
    batches = images.held_out.batches(config.batch_size)
    computed = map_images(mapper.components, batches, [fused], images.own_numbers)
    return MapSettings(smoothing, fit_scales(computed, fused, smoothing))


def select_map(
    mapper: AnomalyMapper,
    specs: Sequence[MapSpec],
    settings: MapSettings,
    validation: Sequence[PaintedImage],
    *,
    batch_size: int,
) -> SelectedMap:
    """Select the map with the highest mean of pixel and image AUROC on synthetic defects.

    Of equally good maps the first is taken.

    Args:
        mapper: computes the maps.
        specs: maps to choose from.
        settings: smoothing and scales.
        validation: held-out normal images with and without a synthetic defect.
        batch_size: images at once.
    """
    computed = map_images(mapper.components, painted_batches(validation, batch_size), specs)
    scores = {}
    for spec in specs:
        maps = (finish_map(parts, spec, settings) for parts in by_image(computed, spec))
        scores[spec] = score_maps(maps, validation)
    best = max(specs, key=lambda spec: scores[spec].mean)
    return SelectedMap(best, settings, {str(spec): score for spec, score in scores.items()})
