"""Where the time of `localize` and `train` goes, and how far it is from what the processor can do.

    python benchmarks/breakdown.py [--quick] [--json FILE]

Milliseconds of processor time for each image, on one thread, by step. The floor of the network is
its operations over the rate of a matrix product of the same library; the floor of files is their
bytes. Other work on the machine changes processor time less than wall time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from measure import Spread, Table, add_options, spread
from throughput import save_untrained, write_images
from torch.utils.flop_counter import FlopCounterMode

from anomaly_cli.commands import sample
from anomaly_cli.config.data import SampleConfig
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.maps import fused_map, parts_of
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.detector.prediction import KINDS, Prediction
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.fit import make_trainer
from anomaly_cli.training.loop import Trainer
from models.config import vae_config

Work = Callable[[], object]
SIZE = 900  # pixels of the images
NETWORK, MAPS = "frozen encoder, neck and latents", "memory, attention and appearance"
ENLARGE = "enlarge the map"
COMPUTED = ("anomaly_map", "mask", "_levels")  # kept by a prediction once they are computed


class Steps:
    """Table of steps, each with its time for one image and its share.

    Args:
        table: the rows.
        images: how many one call works on.
        repeats: calls that are counted.
    """

    def __init__(self, table: Table, images: int, repeats: int) -> None:
        self.table, self.images, self.repeats = table, images, repeats
        self.times: dict[str, Spread] = {}

    def add(self, name: str, work: Work, *, without: Sequence[str] = ()) -> None:
        """Measure one step, after one call that is not counted.

        The time of the earlier steps `without` is subtracted, which the call repeats.
        """
        work()
        times = []
        for _ in range(self.repeats):
            start = time.process_time()
            work()
            times.append(1000 * (time.process_time() - start) / self.images)
        repeated = sum(self.times[step].median for step in without)
        self.times[name] = spread([max(0.0, taken - repeated) for taken in times])

    def finish(self) -> None:
        """Print the steps with their shares."""
        total = sum(step.median for step in self.times.values())
        for name, step in self.times.items():
            self.table.add(name, step, f"{step.median / total:.0%}")
        self.table.add("sum", total, "100%")
        self.table.save()


def products_a_second() -> float:
    """Measure the rate of a float32 matrix product, in operations a second."""
    size = 1024
    matrix = torch.rand(size, size)
    times = []
    for _ in range(7):
        start = time.process_time()
        _product = matrix @ matrix
        times.append(time.process_time() - start)
    return 2 * size**3 / min(times)


def count_operations(work: Work) -> float:
    """Count multiplications and additions of the convolutions and products in a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


class Floor(NamedTuple):
    """Operations of one image, their time at best, the time they take, and the share reached."""

    what: str
    gigaflop: float
    floor: float  # ms
    taken: float  # ms
    reached: str


def find_floor(name: str, work: Work, images: int) -> Floor:
    """Compare the time of a call with that of its operations."""
    operations = count_operations(work) / images
    work()
    start = time.process_time()
    work()
    taken = 1000 * (time.process_time() - start) / images
    floor = 1000 * operations / products_a_second()
    return Floor(name, operations / 1e9, floor, taken, f"{floor / taken:.0%}")


def bench_localize(folder: Path, steps: Steps, size: int) -> list[Floor]:
    """Measure the steps of `localize` with all its files, on images of `size` pixels."""
    config = vae_config(TrainConfig().network)
    spec = fused_map(config)
    assert spec is not None  # noqa: S101 - the default network has one
    save_untrained(folder / "model.safetensors", config, spec)
    paths = write_images(folder / "images", steps.images, size)
    detector = Detector.load(folder / "model.safetensors", device="cpu", batch_size=steps.images)
    mapper = cast("VAEMapper", detector.view.mapper)
    photos = [read_image(path) for path in paths]
    side = config.image_size
    images = to_tensor(np.stack([resize_image(photo, side, side) for photo in photos]))
    predictions = list(detector.predict_files(paths))
    forward = torch.inference_mode()(partial(mapper.vae.encode, images))
    compute = partial(mapper.compute, images, parts_of([spec]))
    steps.add("read and decode PNG", lambda: [read_image(path) for path in paths])
    steps.add("shrink", lambda: [resize_image(photo, side, side) for photo in photos])
    steps.add(NETWORK, forward)
    # Memory and attention share the pass of the frozen encoder, so each is the rest of a whole.
    steps.add(MAPS, compute, without=[NETWORK])
    steps.add(
        "smooth, scale and add parts", lambda: mapper(images, [spec]), without=[NETWORK, MAPS]
    )
    add_outputs(folder, steps, predictions)
    steps.finish()
    return [
        find_floor("network", forward, steps.images),
        find_floor("network and maps", compute, steps.images),
    ]


def add_outputs(folder: Path, steps: Steps, predictions: Sequence[Prediction]) -> None:
    """Measure what `localize` draws and writes of each prediction."""

    def fresh(work: Callable[[Prediction], object]) -> None:
        for result in predictions:
            for name in COMPUTED:
                result.__dict__.pop(name, None)
            work(result)

    def save(kind: str, result: Prediction) -> None:
        result.save(folder / "results", kinds=[kind])

    steps.add(ENLARGE, partial(fresh, lambda result: result.anomaly_map))
    for kind in KINDS:
        steps.add(f"draw and write {kind}", partial(fresh, partial(save, kind)), without=[ENLARGE])


def bench_train(folder: Path, table: Table, repeats: int) -> Floor:
    """Measure the steps of the default training: images, losses, gradients, optimiser."""
    sample.run(SampleConfig(destination=folder / "data", category="gravel", count=24))
    config = TrainConfig.resolve(data=folder / "data", category="gravel", epochs=1, workers=0)
    trainer = make_trainer(config, open_training_set(config), torch.device("cpu"))
    assert isinstance(trainer, Trainer)  # noqa: S101 - the default method has one
    trainer.network.train()
    objective, noise = trainer.objective, torch.Generator()
    batches = list(objective.loader(1, workers=0))
    batch = batches[0]
    steps = Steps(table, config.batch_size, repeats)
    steps.add("read, augment and paint", lambda: next(iter(objective.loader(1, workers=0))))
    steps.add("forward and losses", lambda: objective.losses(batch, noise))

    def backward() -> None:
        trainer.optimizer.zero_grad()
        objective.losses(batch, noise).total.backward()  # type: ignore[no-untyped-call]

    steps.add("backward", backward, without=["forward and losses"])

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(trainer.parameters, config.gradient_clip)
        trainer.optimizer.step()

    steps.add("clip and step of Adam", step)
    steps.finish()
    return find_floor("training step", backward, config.batch_size)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, repeats = (2, 1) if options.quick else (16, 5)
    columns = ("step", "ms an image", "share")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = Steps(Table("localize", columns, options.json), images, repeats)
        floors = bench_localize(folder, steps, SIZE)
        floors.append(bench_train(folder, Table("train", columns, options.json), repeats))
    table = Table(
        "floor", ("what", "GFLOP an image", "floor, ms", "takes, ms", "reached"), options.json
    )
    for floor in floors:
        table.add(*floor)
    table.save()


if __name__ == "__main__":
    main()
