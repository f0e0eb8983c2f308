"""Maps of single latents: a trained model above, the same network with random weights below.

    python benchmarks/figures.py demo/runs/brick --data demo/data --output docs/figures/latents.png

Rows are defective test images, columns latents; one colour scale for each of the two models, from
zero to the largest value of its maps.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from accuracy import random_mapper

from anomaly_cli.data.mvtec import test_samples
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.mapper import AnomalyMapper
from anomaly_cli.detector.maps import MapSpec, parse_map_spec
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.files.images import RGBImage, write_png
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image
from anomaly_cli.pictures.colours import heat_levels, overlay
from anomaly_cli.pictures.layout import HEADING, below, beside, margin, text_line

IMAGES, LATENTS = 3, 7
TILE = 160  # pixels


def draw_rows(mapper: AnomalyMapper, spec: MapSpec, images: list[RGBImage], title: str) -> RGBImage:
    """Draw a title, and a row of tiles for each image."""
    maps = mapper.with_latents(to_tensor(np.stack(images)), spec).latent_maps[:, :LATENTS].numpy()
    rows = [text_line(title, HEADING)]
    for image, of_image in zip(images, maps, strict=True):
        tile = resize_image(image, TILE, TILE)
        tiles = [tile]
        for latent_map in of_image:
            enlarged = cv2.resize(latent_map, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
            levels = heat_levels(np.asarray(enlarged, np.float32), (0.0, float(maps.max())))
            tiles.append(overlay(tile, levels))
        rows.append(beside(tiles))
    return below(rows)


def main() -> None:
    """Write one figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--map", default="gradcam@layer3")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    loaded = load_model(options.model)
    record = loaded.record
    size = record.model.image_size
    spec = parse_map_spec(options.map, record.model)
    samples = [s for s in test_samples(options.data, record.category) if s.is_anomalous]
    chosen = samples[:: max(1, len(samples) // IMAGES)][:IMAGES]
    images = [resize_image(read_image(sample.path), size, size) for sample in chosen]
    cpu = torch.device("cpu")
    mappers = {
        f"{spec}, latents 0 to {LATENTS - 1}, trained": loaded.mapper(cpu),
        f"{spec}, random weights": random_mapper(loaded, options.data, cpu),
    }
    rows = [draw_rows(mapper, spec, images, title) for title, mapper in mappers.items()]
    write_png(options.output, margin(below(rows)))


if __name__ == "__main__":
    main()
