"""Small valid model files, with weights that learned nothing."""

import torch
from torch import Tensor

from anomaly_cli.config.values import DEFAULT_RULE
from anomaly_cli.detector.calibration import MapCalibration, calibrate_map
from anomaly_cli.detector.checkpoint import ModelRecord
from anomaly_cli.detector.fusion import MapSettings, fit_scales
from anomaly_cli.detector.mapper import AnomalyMapper
from anomaly_cli.detector.maps import MapSpec, map_specs
from anomaly_cli.detector.normal.appearance import NEAR, fit_places
from anomaly_cli.detector.normal.latents import fit_latents
from anomaly_cli.detector.normal.memory import fit_memory
from anomaly_cli.detector.normal.statistics import NormalStatistics
from anomaly_cli.detector.vae_mapper import VAEMapper
from models.build import one_class_vae
from models.config import OneClassConfig, OneClassConvConfig, VAEConfig, vae_config
from models.efficientnet import EfficientNetLite0
from models.frozen import FrozenEncoder
from models.vae import VAE

CONFIGS: tuple[OneClassConfig, ...] = (
    OneClassConvConfig(image_size=16, channels=(4, 6), hidden=8, latent_dim=3),
    VAEConfig(
        image_size=32,
        encoder="efficientnet-lite0",
        features="efficientnet-lite0",
        neck="fpn",
        neck_channels=8,
        latent_dim=3,
    ),
)
_IMAGES = 6
_CPU = torch.device("cpu")


def build_model(config: OneClassConfig) -> tuple[VAE, ModelRecord]:
    """Build a network with random weights, and describe random images by it."""
    torch.manual_seed(0)
    vae = one_class_vae(vae_config(config)).eval()
    if isinstance(vae.encoder, FrozenEncoder):
        for weight in vae.encoder.backbone.parameters():
            torch.nn.init.normal_(weight, std=0.1)
    images = torch.rand(_IMAGES, 3, config.image_size, config.image_size)
    statistics = _describe(vae, images)
    mapper = VAEMapper(vae, statistics, config.image_size, _CPU)
    spec = map_specs(config)[-1] if config.has_memory else map_specs(config)[0]
    parts = mapper.components(images, [spec])
    raw = {part: list(own.numpy()) for part, own in parts.items()}
    mapper.settings = MapSettings(1.0, fit_scales(raw, spec, 1.0) if spec.is_fused else {})
    record = ModelRecord(
        category="disc",
        model=config,
        statistics=statistics,
        calibrations=_calibrate(mapper, images, [spec, *spec.parts]),
        default_map=str(spec),
        default_threshold=DEFAULT_RULE,
        default_scores="raw",
        settings=mapper.settings,
        latent_kinds=("hole", "scratch", "hole"),
        training={"seed": 0, "best_epoch": 3},
        data={
            "fingerprint": "ab",
            "fit": 4,
            "held_out": 2,
            "held_out_parts": 2,
            "memory_images": [f"{number}.png" for number in range(_IMAGES)],
        },
    )
    return vae, record


def _describe(vae: VAE, images: Tensor) -> NormalStatistics:
    memory = None
    if isinstance(vae.encoder, FrozenEncoder):
        backbone: EfficientNetLite0 = vae.encoder.backbone
        memory = fit_memory(backbone, [images], [images], count=_IMAGES, seed=0, patches=20)
    attention = fit_latents(vae.encoder, [images])  # type: ignore[arg-type]
    return NormalStatistics(attention, fit_places([images], NEAR), memory)


def _calibrate(
    mapper: AnomalyMapper, images: Tensor, specs: list[MapSpec]
) -> dict[str, MapCalibration]:
    maps = mapper(images, specs)
    return {str(spec): calibrate_map(list(own), 2) for spec, own in maps.items()}
