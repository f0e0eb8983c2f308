"""The VAE: how it is started, and what is computed of normal images when it is trained."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.maps import MapSpec, fused_map, parts_of
from anomaly_cli.detector.normal.latents import fit_latents
from anomaly_cli.detector.normal.memory import PatchMemory, fit_memory
from anomaly_cli.detector.normal.statistics import NormalStatistics
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.files.images import Mask
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.described import Described
from anomaly_cli.training.loop import Trainer
from anomaly_cli.training.painted import PaintedImage, painted_batches
from anomaly_cli.training.pretrained import load_encoder_weights, load_features
from anomaly_cli.training.progressive import make_objective
from anomaly_cli.training.selection import choose_appearance, choose_map
from models.build import one_class_vae
from models.config import vae_config
from models.frozen import FrozenEncoder
from models.resnet import ResNet18Encoder
from models.vae import VAE


def start_vae(config: TrainConfig, images: TrainingSet, device: torch.device) -> Trainer:
    """Make a trainer of a VAE before its first epoch, with pretrained weights if there are any."""
    vae = one_class_vae(vae_config(config.network))
    if isinstance(vae.encoder, ResNet18Encoder):
        load_encoder_weights(vae.encoder, config.weights)
        vae.encoder.freeze(config.freeze)
    if isinstance(vae.encoder, FrozenEncoder):
        vae.encoder.backbone.load_state_dict(load_features().state_dict())
    vae = vae.to(device)
    objective = make_objective(vae, images, config, device)
    return Trainer(vae, objective, config, device, images=len(images.fit))


def describe_vae(
    vae: VAE, images: TrainingSet, config: TrainConfig, device: torch.device
) -> Described:
    """Fit the statistics of normal images, and choose the map, for a trained VAE in eval mode."""
    batch, model = config.batch_size, vae_config(config.network)
    attention = fit_latents(
        vae.encoder,  # type: ignore[arg-type]
        images.fit.batches(batch),
    )
    appearance = choose_appearance(images, batch_size=batch)
    memory = _fit_memory(vae, images, config, device) if model.has_memory else None
    statistics = NormalStatistics(attention, appearance.normal, memory)
    mapper = VAEMapper(vae, statistics, model.image_size, device)
    chosen = choose_map(mapper, images, config)
    mapper.settings = chosen.settings
    fused = fused_map(model) if images.split.is_few else None  # `explain` needs latents
    wanted = [chosen.spec] if fused is None else [chosen.spec, fused]
    return Described(
        mapper=mapper,
        statistics=statistics,
        specs=tuple(dict.fromkeys([*wanted, *parts_of(wanted)])),
        latent_kinds=_latent_kinds(mapper, chosen.spec, images.validation, batch_size=batch),
        training={
            "appearance": appearance.way,
            "appearance_selection": {way: row._asdict() for way, row in appearance.scores.items()},
            "map_selection": {name: row._asdict() for name, row in chosen.scores.items()},
        },
        data={} if memory is None else {"memory_images": _names(images.split.fit, config)},
    )


def _fit_memory(
    vae: VAE, images: TrainingSet, config: TrainConfig, device: torch.device
) -> PatchMemory:
    own = vae.encoder
    encoder = own.backbone if isinstance(own, FrozenEncoder) else load_features().to(device)
    batches = (part.batches(config.batch_size) for part in (images.fit, images.held_out))
    fit, held_out = ((batch.to(device) for batch in of_part) for of_part in batches)
    return fit_memory(
        encoder,
        fit,
        held_out,
        count=len(images.fit),
        seed=config.seed,
        is_few=images.split.is_few,
    )


def _names(paths: Sequence[Path], config: TrainConfig) -> list[str]:
    """Name training images relative to the folder of the category, or as they are."""
    root = config.data / config.category
    return [(p.relative_to(root) if p.is_relative_to(root) else p).as_posix() for p in paths]


def _latent_kinds(
    mapper: VAEMapper, spec: MapSpec, validation: Sequence[PaintedImage], *, batch_size: int
) -> tuple[str, ...]:
    """Find the kind of synthetic defect to which each latent responds most, (D,).

    The response of a latent is the sum of its map over the defect, averaged over images. It is
    taken as a share of the responses of all latents, because kinds of defects differ in strength.
    The result is empty if the map is not made of latents, or if there are no synthetic defects.
    """
    painted = [image for image in validation if image.kind is not None]
    if not (spec.has_latents and painted):
        return ()
    part = spec.parts[0]  # attention
    responses: dict[str, list[NDArray[np.float64]]] = {}
    batches = painted_batches(painted, batch_size)
    maps = chain.from_iterable(mapper.with_latents(b, part).latent_maps.numpy() for b in batches)
    for image, of_image in zip(painted, maps, strict=True):
        weights = _shrink(image.mask, of_image.shape[1:])
        response = (of_image * weights).sum(axis=(1, 2), dtype=np.float64)
        responses.setdefault(str(image.kind), []).append(response / max(response.sum(), 1e-30))
    kinds = sorted(responses)
    table = np.stack([np.mean(responses[kind], axis=0) for kind in kinds])  # (kinds, D)
    return tuple(kinds[int(row)] for row in table.argmax(axis=0))


def _shrink(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Compute the share of the mask (H, W) in each position of a grid (h, w)."""
    height, width = shape
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(share, np.float32)
