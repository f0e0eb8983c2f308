"""Pixel metrics of every anomaly map of a trained model, beside a random encoder.

    python benchmarks/accuracy.py runs/bottle --data data/mvtec --split synthetic
    python benchmarks/accuracy.py runs/bottle --data data/mvtec --split test

`synthetic` paints defects into the held-out normal images; the default map is chosen on it.
`test` reads the real test split; its numbers are reported and choose nothing.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.mvtec import test_samples, training_images
from anomaly_cli.detector.checkpoint import LoadedModel, load_model
from anomaly_cli.detector.device import resolve_device, seed_everything
from anomaly_cli.detector.mapper import AnomalyMapper
from anomaly_cli.detector.maps import MapSpec, map_specs
from anomaly_cli.detector.normal.latents import fit_latents
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.files.images import Mask, RGBImage
from anomaly_cli.files.read import read_image, read_mask
from anomaly_cli.files.resize import resize_image, resize_mask
from anomaly_cli.metrics.detection import image_metrics, pixel_metrics
from anomaly_cli.metrics.images import PixelPool, rank_pixels, sort_pixels
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.images import NormalImages
from models.activations import Encoder
from models.build import one_class_vae
from models.config import vae_config

BATCH = 16
Pair = tuple[RGBImage, Mask]  # (S, S, 3), (S, S)


def synthetic_pairs(loaded: LoadedModel, data: Path) -> Iterator[Pair]:
    """Yield the images that chose the map: held-out normal ones, with and without a defect."""
    record = loaded.record
    settings = {name: record.training[name] for name in ("held_out", "seed", "augmentation")}
    config = TrainConfig(
        data=data, category=record.category, model=record.model, half_size=0.0, **settings
    )
    for image in open_training_set(config).validation:
        yield image.painted, image.mask


def test_pairs(loaded: LoadedModel, data: Path) -> Iterator[Pair]:
    """Yield the real test split at the network's size."""
    size = loaded.record.model.image_size
    for sample in test_samples(data, loaded.record.category):
        image = resize_image(read_image(sample.path), size, size)
        mask = np.zeros((size, size), bool)
        if sample.mask_path is not None:
            mask = resize_mask(read_mask(sample.mask_path), size, size)
        yield image, mask


def random_mapper(loaded: LoadedModel, data: Path, device: torch.device) -> VAEMapper:
    """Make the network anew with random weights; batch norm has seen the normal images."""
    record = loaded.record
    seed_everything(0)
    vae = one_class_vae(vae_config(record.model))
    images = NormalImages(training_images(data, record.category), record.model.image_size)
    with torch.no_grad():
        vae.train()
        for batch in images.batches(16):
            vae(batch)
    vae.eval()
    encoder: Encoder = vae.encoder  # type: ignore[assignment]
    attention = fit_latents(encoder, images.batches(16))
    assert record.statistics is not None, "a VAE expected"  # noqa: S101
    statistics = record.statistics._replace(attention=attention)
    return VAEMapper(vae, statistics, record.model.image_size, device, settings=record.settings)


class Score(NamedTuple):
    """Metrics of one map on some pairs."""

    pixel_auroc: float
    best_iou: float  # at the best threshold for these pairs
    aupro: float
    image_auroc: float
    maxima: list[float]  # of each map


def score_maps(
    mapper: AnomalyMapper, specs: Sequence[MapSpec], pairs: Sequence[Pair]
) -> dict[MapSpec, Score]:
    """Compare every map with the masks."""
    pools: dict[MapSpec, list[PixelPool]] = {spec: [] for spec in specs}
    maxima: dict[MapSpec, list[float]] = {spec: [] for spec in specs}
    labels = np.array([mask.any() for _image, mask in pairs])
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        computed = mapper(to_tensor(np.stack([image for image, _mask in batch])), specs)
        for spec, maps in computed.items():
            for anomaly_map, (_image, mask) in zip(maps, batch, strict=True):
                pools[spec].append(sort_pixels(anomaly_map, mask).pixels)
                maxima[spec].append(float(anomaly_map.max()))
    scores = {}
    for spec in specs:
        pixels = pixel_metrics(rank_pixels(pools.pop(spec)))
        images = image_metrics(np.array(maxima[spec]), labels)
        scores[spec] = Score(
            pixels.pixel_auroc, pixels.best_iou, pixels.aupro, images.image_auroc, maxima[spec]
        )
    return scores


def print_table(
    title: str, mapper: AnomalyMapper, specs: Sequence[MapSpec], pairs: Sequence[Pair]
) -> None:
    """Score every map on the pairs and print one Markdown row for each."""
    print(f"\n{title}\n\n| map | pixel AUROC | best IoU (oracle) | AU-PRO 0.3 | image AUROC |")
    print("| --- | --- | --- | --- | --- |")
    for spec, score in score_maps(mapper, specs, pairs).items():
        figures = " | ".join(f"{value:.3f}" for value in score[:4])
        print(f"| {spec} | {figures} |", flush=True)


def main() -> None:
    """Print the table of the trained model, and of a random one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=["synthetic", "test"], default="synthetic")
    parser.add_argument("--layers", help="by comma; all by default")
    parser.add_argument("--random", action="store_true", help="also a random-weights encoder")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = resolve_device(options.device)
    loaded = load_model(options.model)
    record = loaded.record
    pairs = list(
        (synthetic_pairs if options.split == "synthetic" else test_pairs)(loaded, options.data)
    )
    mapper = loaded.mapper(device)
    title = f"{record.category}, {options.split} split, {len(pairs)} images"
    wanted = (options.layers or ",".join(record.model.layers)).split(",")
    specs = [spec for spec in map_specs(record.model) if spec.layer is None or spec.layer in wanted]
    print_table(f"{title}: trained", mapper, specs, pairs)
    if options.random:
        mapper = random_mapper(loaded, options.data, device)
        unfused = [spec for spec in specs if not spec.is_fused]
        print_table(f"{title}: random weights", mapper, unfused, pairs)


if __name__ == "__main__":
    main()
