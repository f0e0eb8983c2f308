"""All that needs a GPU, in six minutes: the same results as on the CPU, speed and memory.

    python benchmarks/gpu.py [--device cuda] [--json gpu.json] [--markdown gpu.md]
    python benchmarks/gpu.py --device cpu --quick

The second line checks on a CPU that the script runs. Fails with exit code 8 if a map or a verdict
differs, or if a training is not resumed, and with that of a missing device if there is no GPU.
Rows that would begin after `--minutes` are left out; the checks come first.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from disentangle import make_step
from measure import Spread, Table, Work, add_options, seconds, spread
from torch import Tensor

from anomaly_cli.commands import localize, sample, train
from anomaly_cli.config.commands import LocalizeConfig, MapConfig
from anomaly_cli.config.data import SampleConfig
from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.names import STATE_FILE
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.device import resolve_device
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.disentangle.dsprites import open_dsprites
from anomaly_cli.disentangle.training import Trainer as DisentangleTrainer
from anomaly_cli.errors import DeviceError
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.fit import make_trainer, settle
from anomaly_cli.training.loop import EpochStats, StepStats, Training
from anomaly_cli.training.resume import resume_training, save_state, training_settings

CATEGORY = "gravel"
TOLERANCE = 1e-3  # of the values of a map, relative to its largest
FAILED = 8


class Scale(NamedTuple):
    """Amount of work."""

    image_size: int  # pixels, of the network
    images: int  # normal ones
    batch: int
    repeats: int
    sprites: int  # images of a batch of `disentangle`


FULL, QUICK = Scale(320, 120, 32, 5, 64), Scale(64, 24, 8, 1, 8)
Check = tuple[str, bool, str]  # name, whether it holds, what was found


def settings(folder: Path, scale: Scale, device: str, *, amp: bool | None = None) -> TrainConfig:
    """Make the settings of a training of two epochs on the images of `sample`."""
    return TrainConfig.resolve(
        data=folder / "data",
        category=CATEGORY,
        output=folder / "runs",
        image_size=scale.image_size,
        batch_size=scale.batch,
        epochs=2,
        device=device,
        amp=amp,
        workers=0 if scale is QUICK else None,
    )


def check_maps(folder: Path, scale: Scale, device: str) -> list[Check]:
    """Train on the device, and compare maps and verdicts of the test images with the CPU's."""
    (result,) = train.run(settings(folder, scale, device))
    paths = sorted((folder / f"data/{CATEGORY}/test").rglob("*.png"))
    here, there = (
        list(Detector.load(result.model, device=name).predict_files(paths))
        for name in ("cpu", device)
    )
    largest = max(float(abs(one.network_map).max()) for one in here)
    worst = max(
        float(np.abs(a.network_map - b.network_map).max()) for a, b in zip(here, there, strict=True)
    )
    same = sum(a.is_anomalous == b.is_anomalous for a, b in zip(here, there, strict=True))
    return [
        ("maps equal", worst <= TOLERANCE * largest, f"{worst / largest:.1e} of the largest value"),
        ("verdicts equal", same == len(here), f"{same} of {len(here)}"),
    ]


def check_resume(folder: Path, scale: Scale, first: str, second: str) -> Check:
    """Train one epoch on a device, and the second on another, from the saved state."""
    config = settings(folder, scale, first, amp=False)
    images = open_training_set(config)
    config = settle(config, len(images.fit), torch.device(first))
    saved = training_settings(config, images.split)
    trainer = make_trainer(config, images, torch.device(first))
    stats = next_epoch(trainer)
    save_state(folder / STATE_FILE, trainer, saved, [stats])
    resumed = make_trainer(config, images, torch.device(second))
    resume_training(folder / STATE_FILE, resumed, saved)
    resumed_loss, loss = resumed.evaluate().parts[0], trainer.evaluate().parts[0]
    next_epoch(resumed)
    is_same = abs(resumed_loss - loss) <= TOLERANCE * abs(loss)
    found = f"held-out loss {loss:.5g}, resumed {resumed_loss:.5g}; epochs {resumed.epoch}"
    return f"resume, {first} to {second}", is_same and resumed.epoch == 2, found


def next_epoch(trainer: Training) -> EpochStats:
    """Train one epoch."""
    return next(stats for stats in trainer.run() if not isinstance(stats, StepStats))


class Speed:
    """Table of speeds, each with the peak of the device's memory, until the time is over.

    Args:
        table: the rows.
        device: where to compute.
        end: value of the monotonic clock after which no row begins.
    """

    def __init__(self, table: Table, device: torch.device, end: float) -> None:
        self.table, self.device, self.end = table, device, end

    def add(self, name: str, make: Callable[[], Callable[[], Spread]]) -> None:
        """Measure images a second; `make` prepares the measurement, which is then warm."""
        if time.monotonic() > self.end:
            print(f"{name}: left out, the time is over", file=sys.stderr)
            return
        is_gpu = self.device.type == "cuda"
        try:
            measure = make()
            if is_gpu:
                torch.cuda.reset_peak_memory_stats()
            rate: object = measure()
        except RuntimeError as error:  # such as no compiler, or too little memory: one row is lost
            rate = f"failed: {' '.join(str(error).split())[:80]}"
        memory = f"{torch.cuda.max_memory_allocated() / 2**20:.0f}" if is_gpu else "-"
        self.table.add(name, rate, memory)


def repeated(work: Work, images: int, repeats: int) -> Callable[[], Spread]:
    """Measure images a second of repeated calls, after one that is not counted."""
    work()
    return lambda: spread([images / seconds(work) for _ in range(repeats)])


def bench_train(speed: Speed, folder: Path, scale: Scale) -> None:
    """Measure optimiser steps of the default training, images read and painted by workers."""
    for amp in (False, True):

        def make(amp: bool = amp) -> Callable[[], Spread]:
            config = replace(
                settings(folder, scale, str(speed.device), amp=amp), epochs=scale.repeats + 1
            )
            trainer = make_trainer(config, open_training_set(config), speed.device)
            next_epoch(trainer)
            rates = (next_epoch(trainer).images_per_second for _ in range(scale.repeats))
            return lambda: spread(list(rates))

        speed.add(f"train, {'bfloat16' if amp else 'float32'}", make)


def bench_localize(speed: Speed, folder: Path, scale: Scale) -> None:
    """Measure the whole command, and the network alone in float32, bfloat16 and compiled."""
    model = folder / "runs" / CATEGORY
    paths = folder / f"data/{CATEGORY}/train/good"
    config = LocalizeConfig(
        model=model,
        images=(str(paths),),
        output=folder / "results",
        map=MapConfig(device=str(speed.device), batch_size=scale.batch),
        overwrite=True,
    )
    speed.add(
        "localize, all files",
        lambda: repeated(lambda: localize.run(config), scale.images, min(2, scale.repeats)),
    )
    mapper = Detector.load(model, device=str(speed.device)).view.mapper
    assert isinstance(mapper, VAEMapper)  # noqa: S101 - the training above makes a VAE
    shape = (scale.batch, 3, scale.image_size, scale.image_size)
    images = torch.rand(shape, device=speed.device).contiguous(memory_format=torch.channels_last)
    spec = Detector.load(model, device=str(speed.device)).spec
    for name, work in network_variants(mapper, images, scale).items():
        speed.add(f"network, {name}", partial(repeated, work, scale.batch, scale.repeats))
    speed.add(
        "network and map, float32",
        partial(repeated, lambda: mapper.map_batch(images, spec), scale.batch, scale.repeats),
    )


def network_variants(mapper: VAEMapper, images: Tensor, scale: Scale) -> dict[str, Work]:
    """List forward passes of the encoder: float32, bfloat16, and compiled into CUDA graphs."""
    kind, encoder = images.device.type, mapper.vae.encoder
    half = torch.autocast(kind, torch.bfloat16)
    contiguous = images.contiguous(memory_format=torch.contiguous_format)

    def forward(inputs: Tensor, network: Callable[[Tensor], object], *, is_half: bool) -> None:
        with torch.inference_mode(), half if is_half else nullcontext():
            network(inputs)

    variants: dict[str, Work] = {
        "float32, default layout": partial(forward, contiguous, encoder, is_half=False),
        "float32, channels_last": partial(forward, images, encoder, is_half=False),
        "bfloat16, channels_last": partial(forward, images, encoder, is_half=True),
    }
    if scale is FULL:
        graph = torch.compile(encoder, mode="reduce-overhead")
        for name, is_half in (("float32", False), ("bfloat16", True)):
            variants[f"{name}, torch.compile with CUDA graphs"] = partial(
                forward, images, graph, is_half=is_half
            )
    return variants


def bench_disentangle(speed: Speed, scale: Scale) -> None:
    """Measure optimiser steps of AD-FactorVAE, in float32 and under bfloat16 autocast."""
    config = DisentangleConfig(method="ad-factor-vae", batch_size=scale.sprites)
    sprites = open_dsprites(None)
    steps = 1 if scale is QUICK else 50
    for name in ("float32", "bfloat16"):

        def make(name: str = name) -> Callable[[], Spread]:
            step = make_step(DisentangleTrainer, config, sprites, speed.device)[1]
            is_half = name == "bfloat16"

            def work() -> None:
                half = torch.autocast(speed.device.type, torch.bfloat16, enabled=is_half)
                for _ in range(steps):
                    with half:
                        step()

            return repeated(work, steps * scale.sprites, scale.repeats)

        speed.add(f"disentangle, {name}", make)


def run(options: argparse.Namespace, device: torch.device) -> bool:
    """Print both tables; return whether all checks hold."""
    scale = QUICK if options.quick else FULL
    end = time.monotonic() + 60 * options.minutes
    checks = Table("gpu checks", ("check", "verdict", "found"), options.json)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample.run(
            SampleConfig(
                destination=folder / "data",
                category=CATEGORY,
                image_size=scale.image_size,
                count=scale.images,
            )
        )
        found = check_maps(folder, scale, str(device))
        found += [check_resume(folder, scale, *pair) for pair in crossings(device)]
        for check, holds, what in found:
            checks.add(check, "ok" if holds else "FAILED", what)
        speeds = Table("gpu speed", ("what", "images/s", "peak MiB"), options.json)
        speed = Speed(speeds, device, end)
        bench_train(speed, folder, scale)
        bench_localize(speed, folder, scale)
        bench_disentangle(speed, scale)
    for table in (checks, speeds):
        table.save()
    if options.markdown:
        options.markdown.write_text("\n\n".join("\n".join(t.lines) for t in (checks, speeds)))
    return all(holds for _check, holds, _what in found)


def crossings(device: torch.device) -> list[tuple[str, str]]:
    """List pairs of devices between which a training is resumed."""
    return [(str(device), "cpu"), ("cpu", str(device))]


def main() -> None:
    """Read the options and find the device."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.set_defaults(device="cuda")
    parser.add_argument("--markdown", type=Path, help="file for the tables")
    parser.add_argument("--minutes", type=float, default=5.0, help="no row begins after these")
    options = parser.parse_args()
    try:
        device = resolve_device(options.device)
    except DeviceError as error:
        print(f"no GPU was found, so nothing was measured: {error}", file=sys.stderr)
        raise SystemExit(DeviceError.exit_code) from None
    if not run(options, device):
        raise SystemExit(FAILED)


if __name__ == "__main__":
    main()
