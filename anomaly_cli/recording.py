"""Trained weights -> all that a model file holds besides: statistics, choices, calibrations."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from anomaly_cli.appearance_choice import choose_appearance
from anomaly_cli.calibration import parse_threshold
from anomaly_cli.checkpoint import ModelRecord
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.context_fit import fit_context
from anomaly_cli.data.painted import PaintedImage, painted_batches
from anomaly_cli.data.training_set import TrainingSet
from anomaly_cli.drawing import MapMaker, calibrate_maps
from anomaly_cli.files.images import Mask
from anomaly_cli.fusion import MapSettings, fit_fusions
from anomaly_cli.maps import MapSpec, candidate_maps, fuse_with, map_specs
from anomaly_cli.normality import normal_statistics
from anomaly_cli.selection import SelectedMap, select_map
from models.config import Attention
from models.vae import VAE

SMOOTHINGS = (0.0, 1 / 128, 1 / 64, 1 / 32)  # tried with guidance, as shares of the image's side


def record_model(
    vae: VAE,
    images: TrainingSet,
    config: TrainConfig,
    device: torch.device,
    *,
    training: Mapping[str, Any],
    data: Mapping[str, Any],
) -> ModelRecord:
    """Describe trained weights, by normal images and drawn defects alone.

    Args:
        vae: with the weights that are kept.
        images: those that it was trained on, and those held out.
        config: of the training.
        device: where to compute.
        training: settings and results of the training, plain JSON values.
        data: of the images, plain JSON values.
    """
    batch, model = config.batch_size, config.network
    vae.eval()
    statistics = normal_statistics(
        vae.encoder,  # type: ignore[arg-type]
        images.fit.batches(batch),
        with_half=model.has_scales,
    )
    looks = choose_appearance(images, batch_size=batch)
    context = fit_context(images.fit.batches(batch), images.held_out.batches(batch))
    statistics = statistics._replace(appearance=looks.normal, context=context)
    maker = MapMaker(vae, statistics, model.image_size, device)
    selected = _select(maker, images, config)
    maker.settings = selected.settings
    return ModelRecord(
        category=config.category,
        model=model,
        statistics=statistics,
        calibrations=calibrate_maps(
            maker, images.held_out, model, batch_size=batch, painted=images.validation
        ),
        default_map=str(selected.spec),
        default_scores=config.scores,
        default_threshold=str(parse_threshold(config.threshold)),
        settings=selected.settings,
        latent_kinds=_latent_kinds(maker, selected.spec, images.validation, batch_size=batch),
        training={
            **training,
            "appearance": looks.way,
            "appearance_selection": {way: row._asdict() for way, row in looks.reached.items()},
            "map_selection": {name: row._asdict() for name, row in selected.reached.items()},
        },
        data=data,
    )


def _select(maker: MapMaker, images: TrainingSet, config: TrainConfig) -> SelectedMap:
    """The map that is best on drawn defects; where none were drawn, the first candidate."""
    candidates, settings = _candidates(config), _settings(maker, images, config)
    if not images.validation:
        return SelectedMap(candidates[0], settings[0], {})
    # Attention has learned from such defects, so they flatter it beside appearance and error, which
    # have not; and most are small, which real ones need not be. But a network that has not seen
    # images of half the side draws wide halos there.
    own = Attention.EXACT_SCALES if config.half_size else Attention.EXACT_COVARIANCE
    robust = fuse_with(MapSpec(own.value, config.model.layers[-1]))
    return select_map(
        maker,
        candidates,
        settings,
        images.validation,
        batch_size=config.batch_size,
        favoured=(robust,) if config.guidance == "synthetic" else (),
    )


def _candidates(config: TrainConfig) -> list[MapSpec]:
    """What the user named; else the maps that guidance trains; without it, all of the layer."""
    if config.guidance == "none" or config.attention is not None or config.layer is not None:
        return candidate_maps(config.network, config.attention, config.layer)
    fused = [spec for spec in map_specs(config.network) if spec.is_fused]
    return [*fused, *(spec.parts[0] for spec in fused)]


def _settings(maker: MapMaker, images: TrainingSet, config: TrainConfig) -> list[MapSettings]:
    """Every smoothing to choose from, with the scales that fused maps have under it."""
    shares = SMOOTHINGS if config.guidance == "synthetic" else (0.0,)
    smoothings = [share * config.model.image_size for share in shares]
    specs = [spec for spec in map_specs(config.network) if spec.is_fused]
    if not specs:
        return [MapSettings(sigma) for sigma in smoothings]
    grid = config.model.image_size // config.model.stride(config.model.layers[-1])
    fit, held_out = (part.batches(config.batch_size) for part in (images.fit, images.held_out))
    fusions = fit_fusions(maker.draw, fit, held_out, specs, smoothings, grid)
    return [MapSettings(sigma, fusions[sigma]) for sigma in smoothings]


def _latent_kinds(
    maker: MapMaker, spec: MapSpec, validation: Sequence[PaintedImage], *, batch_size: int
) -> tuple[str, ...]:
    """The kind of drawn defect in which each latent's map is highest on average, (D,).

    Empty where the map is not made of latents, or no defects were drawn. Kinds differ in how much
    they change, so a latent's response to a kind is taken as its share in that of all latents.
    """
    painted = [image for image in validation if image.kind is not None]
    if not (spec.has_latents and painted):
        return ()
    part = spec.parts[0]
    responses: dict[str, list[NDArray[np.float64]]] = {}
    batches = painted_batches(painted, batch_size)
    maps = chain.from_iterable(maker.with_latents(b, part).latent_maps.numpy() for b in batches)
    for image, of_image in zip(painted, maps, strict=True):
        weights = _shrink(image.mask, of_image.shape[1:])
        response = (of_image * weights).sum(axis=(1, 2), dtype=np.float64)
        responses.setdefault(str(image.kind), []).append(response / max(response.sum(), 1e-30))
    kinds = sorted(responses)
    table = np.stack([np.mean(responses[kind], axis=0) for kind in kinds])  # (kinds, D)
    return tuple(kinds[int(row)] for row in table.argmax(axis=0))


def _shrink(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The share of the mask (H, W) in each position of a grid (h, w)."""
    height, width = shape
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(share, np.float32)
