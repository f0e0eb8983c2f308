"""Speed of the tool over the bare network, as ratios in one run.

    python benchmarks/throughput.py [--quick]

- training: `Trainer` (reading, augmenting, selecting, clipping, statistics) over a bare loop of
  forward, backward and Adam on the same network and batch. Bar: at least 75%.
- localize: the whole command (decode, network, map, colours, files) over the passes through the
  network that its map needs, on ready tensors. With the paper's network and `exact_position` that
  is the encoder. Bar: at least 80%. With the default of `train` it is the frozen encoder and its
  neck; memory, appearance and the gradients of attention come on top. Bar, for 500 PNG files of
  900 px with all four kinds of output: 85%. A row for each of the two has all of the map's
  computation in place of the passes.
- start-up: `anomaly-cli --help` and `--version` over importing typer and rich. Bar: 3 times.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measure import Table, add_options, paired, paired_seconds, seconds

from anomaly_cli.commands import localize
from anomaly_cli.config.commands import LocalizeConfig, MapConfig
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.config.values import ThresholdRule
from anomaly_cli.data.photographs import Split, draw_normal
from anomaly_cli.detector.calibration import calibrate_map
from anomaly_cli.detector.checkpoint import ModelRecord, save_model
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.device import resolve_device, seed_everything
from anomaly_cli.detector.fusion import MapSettings, fit_scales
from anomaly_cli.detector.mapper import map_images
from anomaly_cli.detector.maps import MapSpec, fused_map, map_specs, parts_of
from anomaly_cli.detector.normal.appearance import NEAR, fit_places
from anomaly_cli.detector.normal.latents import fit_latents
from anomaly_cli.detector.normal.memory import PatchMemory, fit_memory
from anomaly_cli.detector.normal.statistics import NormalStatistics
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.files.images import write_png
from anomaly_cli.training.augmentation import BY_CATEGORY
from anomaly_cli.training.images import NormalImages
from anomaly_cli.training.loop import StepStats, Trainer
from anomaly_cli.training.objectives import PlainObjective
from anomaly_cli.training.pretrained import load_features
from models.activations import Encoder
from models.build import one_class_vae
from models.config import Attention, OneClassVAEConfig, VAEConfig, vae_config
from models.frozen import FrozenEncoder
from models.losses import vae_loss_terms
from models.resnet import resnet18_vae
from models.vae import VAE

BATCH = 16


class LocalizeWork(NamedTuple):
    """Images that `localize` works on."""

    images: int
    size: int  # pixels
    is_guided: bool  # whether the network is the default one; or else the paper's
    bar: str


def write_images(folder: Path, count: int, size: int) -> list[Path]:
    """Crops of a photograph as PNG files."""
    generator = np.random.default_rng(0)
    paths = [folder / f"{i:04}.png" for i in range(count)]
    for path in paths:
        crop = draw_normal("gravel", split=Split.TRAIN, image_size=size, generator=generator)
        write_png(path, crop)
    return paths


def bench_training(
    table: Table, folder: Path, device: torch.device, steps: int, repeats: int
) -> None:
    """Images per second of training, the tool against a bare loop."""
    model = VAEConfig()
    config = TrainConfig(
        epochs=repeats, batch_size=BATCH, guidance="none", model=model, half_size=0.0
    )
    paths = write_images(folder / "train", BATCH * steps + BATCH, model.image_size)
    fit = NormalImages(paths[BATCH:], model.image_size, BY_CATEGORY["tile"])
    held_out = NormalImages(paths[:BATCH], model.image_size)
    seed_everything(0)
    vae = resnet18_vae(model).to(device)
    objective = PlainObjective(vae, fit, held_out, config, device)
    trainer = Trainer(vae, objective, config, device, images=len(fit))
    run = trainer.run()

    def tool() -> float:
        def epoch() -> None:
            for stats in run:
                if not isinstance(stats, StepStats):
                    return

        return steps * BATCH / seconds(epoch)

    bare = bare_training(model, next(fit.batches(BATCH)).to(device), steps)
    bare()
    table.add("training, images/s", *paired(tool, bare, repeats), ">= 0.75")


def bare_training(
    config: OneClassVAEConfig, images: torch.Tensor, steps: int
) -> Callable[[], float]:
    """Images per second of forward, backward and Adam on one ready batch."""
    vae = one_class_vae(config).to(images.device).train()
    parameters = [part for part in vae.parameters() if part.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)

    targets = vae.targets(images)

    def loop() -> None:
        for _ in range(steps):
            reconstruction, kl = vae_loss_terms(vae(images), targets, "bce")
            optimizer.zero_grad()
            (reconstruction + kl).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if images.is_cuda:
            torch.cuda.synchronize()

    return lambda: steps * len(images) / seconds(loop)


def save_untrained(path: Path, config: OneClassVAEConfig, spec: MapSpec) -> VAE:
    """Write a model with random weights, on which speed does not depend, and return it."""
    seed_everything(0)
    vae = one_class_vae(config).eval()
    if isinstance(vae.encoder, FrozenEncoder):
        vae.encoder.backbone.load_state_dict(load_features().state_dict())
    calibration = calibrate_map([np.linspace(0, 1e-3, 64, dtype=np.float32).reshape(8, 8)], 8)
    images = [torch.rand(4, 3, config.image_size, config.image_size)]
    encoder: Encoder = vae.encoder  # type: ignore[assignment]
    statistics = NormalStatistics(
        attention=fit_latents(encoder, images),
        appearance=fit_places(images, NEAR),
        memory=_memory(vae, images) if config.has_memory else None,
    )
    settings = MapSettings()
    if spec.is_fused:
        mapper = VAEMapper(vae, statistics, config.image_size, torch.device("cpu"))
        computed = map_images(mapper.components, images, [spec])
        settings = MapSettings(0.0, fit_scales(computed, spec, 0.0))
    record = ModelRecord(
        category="gravel",
        model=config,
        statistics=statistics,
        calibrations={str(each): calibration for each in map_specs(config)},
        default_map=str(spec),
        default_threshold=ThresholdRule("max"),
        default_scores="raw",
        settings=settings,
        latent_kinds=(),
        training={},
        data={"fit": 4, "held_out": 4, "held_out_parts": 1, "memory_images": ["0.png"] * 4},
    )
    save_model(path, vae.state_dict(), record)
    return vae


def _memory(vae: VAE, images: list[torch.Tensor]) -> PatchMemory:
    encoder = vae.encoder.backbone if isinstance(vae.encoder, FrozenEncoder) else load_features()
    return fit_memory(encoder, images, images, count=len(images[0]), seed=0)


def bench_localize(
    table: Table, folder: Path, device: torch.device, work: LocalizeWork, repeats: int
) -> None:
    """Images per second of `localize` with all its outputs, against the bare network."""
    model = folder / "model.safetensors"
    count, size, is_guided, bar = work
    config = vae_config(TrainConfig().network) if is_guided else VAEConfig()
    fused = fused_map(config)
    assert fused is not None  # noqa: S101 - both networks have a pooled activation
    exact = MapSpec(Attention.EXACT_POSITION.value, config.layers[-1])
    spec = fused if is_guided else exact
    vae = save_untrained(model, config, spec).to(device)
    write_images(folder / f"images{size}", count, size)
    settings = LocalizeConfig(
        model=model,
        images=(str(folder / f"images{size}"),),
        output=folder / "results",
        map=MapConfig(device=str(device)),
    )

    def tool() -> float:
        elapsed = seconds(lambda: localize.run(settings))
        shutil.rmtree(folder / "results")
        return count / elapsed

    images = torch.rand(BATCH, 3, config.image_size, config.image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)

    mapper = Detector.load(model, device=str(device)).view.mapper

    def rate(work: Callable[[], object]) -> float:
        def loop() -> None:
            for _ in range(-(-count // BATCH)):
                work()

        return count / seconds(loop)

    forward = torch.inference_mode()(partial(vae.encode, images))
    compute = partial(mapper.compute, images, parts_of([spec]))
    name = f"localize {count} images of {size} px with {spec.source}, images/s"
    table.add(f"{name}, over the network", *paired(tool, partial(rate, forward), repeats), bar)
    table.add(f"{name}, over network and maps", *paired(tool, partial(rate, compute), repeats), "-")


def bench_startup(table: Table, repeats: int) -> None:
    """Seconds of `--help` and `--version`, against importing typer and rich."""
    script = str(Path(sys.executable).with_name("anomaly-cli"))
    base = partial(subprocess.run, [sys.executable, "-c", "import typer, rich"], check=True)
    for option in ("--help", "--version"):
        tool = partial(subprocess.run, [script, option], stdout=subprocess.DEVNULL, check=True)
        table.add(f"{option}, s", *paired_seconds(tool, base, repeats), "<= 3")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    device = resolve_device(options.device)
    repeats = 1 if options.quick else 5
    print(f"{device}, {torch.get_num_threads()} threads, batch {BATCH}, median of {repeats}")
    table = Table("throughput", ("what", "tool", "bare", "ratio", "bar"), options.json)
    works = [
        LocalizeWork(500, 256, is_guided=False, bar=">= 0.80"),
        LocalizeWork(500, 900, is_guided=True, bar=">= 0.85"),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_startup(table, repeats)
        bench_training(table, folder, device, 2 if options.quick else 6, repeats)
        for work in works:
            wanted = work._replace(images=BATCH) if options.quick else work
            bench_localize(table, folder, device, wanted, min(repeats, 3))
            table.save()


if __name__ == "__main__":
    main()
