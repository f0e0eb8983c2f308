"""What the compared methods take images for, and what AnoGAN draws.

    python benchmarks/methods.py methods --data demo/data --category brick \
        --output docs/figures/methods.png

`methods` holds a folder of runs for each method, as `train --output methods/ae-l2` writes it. Rows
are test images, columns what each model makes of them; the last rows are samples of the generator.
"""

import argparse
from pathlib import Path

from PIL import Image

from anomaly_cli.data.mvtec import test_samples
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.predict import to_image
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image
from anomaly_cli.pictures.layout import HEADING, below, framed, grid, margin, text_line
from models.anogan import AnoGAN

SIDE = 128  # of the pictures, in pixels
COLUMNS = {"ae-l2": "AE-L2", "ae-ssim": "AE-SSIM", "anogan": "AnoGAN"}
IMAGES, SAMPLES = 3, 8


def draw_reconstructions(runs: Path, data: Path, category: str) -> RGBImage:
    """Draw test images beside what each model takes them for."""
    detectors = [Detector.load(runs / name / category) for name in COLUMNS]
    samples = test_samples(data, category)
    chosen = samples[:: max(1, len(samples) // IMAGES)][:IMAGES]
    rows = [[text_line(text, HEADING) for text in ("image", *COLUMNS.values())]]
    for image in (read_image(sample.path) for sample in chosen):
        pictures = [image, *(detector.expected(image) for detector in detectors)]
        shown = [picture for picture in pictures if picture is not None]
        rows.append([framed(resize_image(picture, SIDE, SIDE)) for picture in shown])
    return grid(rows)


def draw_samples(model: Path) -> RGBImage:
    """Draw images that the generator of AnoGAN makes of random latents."""
    network = load_model(model).network
    assert isinstance(network, AnoGAN), "a model of AnoGAN expected"  # noqa: S101
    drawn = [to_image(image) for image in network.sample(SAMPLES, seed=0)]
    tiles = [framed(resize_image(image, SIDE, SIDE)) for image in drawn]
    half = SAMPLES // 2
    return below([text_line("drawn by AnoGAN", HEADING), grid([tiles[:half], tiles[half:]])])


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--category", required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    picture = below(
        [
            draw_reconstructions(options.runs, options.data, options.category),
            draw_samples(options.runs / "anogan" / options.category),
        ],
        gap=24,
    )
    # A palette makes the file a third as large.
    small = Image.fromarray(margin(picture)).quantize(256, dither=Image.Dither.NONE)
    small.save(options.output, optimize=True)


if __name__ == "__main__":
    main()
