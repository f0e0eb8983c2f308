"""Speed of the tool over the bare network, as ratios in one run.

    python benchmarks/throughput.py [--quick]

- training: `Trainer` (reading, augmenting, selecting, clipping, statistics) over a bare loop of
  forward, backward and Adam on the same network and batch. Bar: at least 75%.
- localize: the whole command (decode, network, map, colours, files) over the passes through the
  network that its map needs, on ready tensors. With the paper's network and `exact_position` that
  is the encoder. Bar: at least 80%. With the default of `train` it is the frozen encoder and its
  neck; memory, appearance and the gradients of attention come on top.
- start-up: `anomaly-cli --help` and `--version` over importing typer and rich. Bar: 3 times.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from anomaly_cli.commands import localize
from anomaly_cli.config.commands import LocalizeConfig, MapConfig
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.config.values import ThresholdRule
from anomaly_cli.data.photographs import Split, draw_normal
from anomaly_cli.detector.calibration import calibrate_map
from anomaly_cli.detector.checkpoint import ModelRecord, save_model
from anomaly_cli.detector.device import resolve_device, seed_everything
from anomaly_cli.detector.fusion import MapSettings, fit_scales
from anomaly_cli.detector.mapper import map_images
from anomaly_cli.detector.maps import MapSpec, fused_map, map_specs
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


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def paired(
    tool: Callable[[], float], bare: Callable[[], float], repeats: int
) -> tuple[float, float, float]:
    """Medians of both rates and of their ratio, taken in turns so that noise hits both alike."""
    pairs = [(tool(), bare()) for _ in range(repeats)]
    ratios = [a / b for a, b in pairs]
    ours, theirs = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(theirs), statistics.median(ratios)


def report(name: str, bar: str, tool: float, bare: float, ratio: float) -> None:
    """One row of the table."""
    print(f"| {name} | {tool:.2f} | {bare:.2f} | {ratio:.2f} | {bar} |", flush=True)


def write_images(folder: Path, count: int, size: int) -> list[Path]:
    """Crops of a photograph as PNG files."""
    generator = np.random.default_rng(0)
    paths = [folder / f"{i:04}.png" for i in range(count)]
    for path in paths:
        crop = draw_normal("gravel", split=Split.TRAIN, image_size=size, generator=generator)
        write_png(path, crop)
    return paths


def bench_training(folder: Path, device: torch.device, steps: int, repeats: int) -> None:
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
    report("training, images/s", ">= 0.75", *paired(tool, bare, repeats))


def bare_training(config: VAEConfig, images: torch.Tensor, steps: int) -> Callable[[], float]:
    """Images per second of forward, backward and Adam on one ready batch."""
    vae = resnet18_vae(config).to(images.device).train()
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-4)

    def loop() -> None:
        for _ in range(steps):
            reconstruction, kl = vae_loss_terms(vae(images), images, "bce")
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
    folder: Path, device: torch.device, count: int, size: int, repeats: int, *, is_guided: bool
) -> None:
    """Images per second of `localize` with all its outputs, against the bare network."""
    model = folder / "model.safetensors"
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

    @torch.inference_mode()
    def bare() -> float:
        def loop() -> None:
            for _ in range(-(-count // BATCH)):
                vae.encode(images)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return count / seconds(loop)

    name = f"localize {count} images of {size} px with {spec.source}, images/s"
    has_bar = size == 256 and not is_guided
    report(name, ">= 0.80" if has_bar else "-", *paired(tool, bare, repeats))


def bench_startup(repeats: int) -> None:
    """Seconds of `--help` and `--version`, against importing typer and rich."""
    script = str(Path(sys.executable).with_name("anomaly-cli"))
    base = [sys.executable, "-c", "import typer, rich"]
    for option in ("--help", "--version"):
        tool, bare, ratio = paired(
            partial(
                seconds,
                partial(subprocess.run, [script, option], stdout=subprocess.DEVNULL, check=True),
            ),
            lambda: seconds(lambda: subprocess.run(base, check=True)),
            repeats,
        )
        report(f"{option}, s", "<= 3", tool, bare, ratio)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images and repeats")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = resolve_device(options.device)
    repeats = 2 if options.quick else 5
    print(
        f"{device}, {torch.get_num_threads()} threads, 256 px, batch {BATCH}, median of {repeats}\n"
    )
    print("| what | tool | bare | ratio | bar |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_startup(2 * repeats)
        bench_training(folder, device, 2 if options.quick else 6, repeats)
        count = 64 if options.quick else 500
        localize_bench = partial(bench_localize, folder, device, repeats=min(repeats, 3))
        for is_guided in (False, True):
            localize_bench(count, 256, is_guided=is_guided)
            localize_bench(count // 4, 512, is_guided=is_guided)


if __name__ == "__main__":
    main()
