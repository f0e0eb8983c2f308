"""How OpenMP's waiting threads cost time beside other work, as ratios.

    python benchmarks/busy.py [--quick] [--rounds N]

Threads of OpenMP spin while they wait for the others. Beside other work, a thread that spins takes
the processor from one that has something to do. `GOMP_SPINCOUNT` says how many turns a thread of
GNU's OpenMP spins before it sleeps. Each row is one command with one spin count, as it is without
any and beside a neighbour with as many threads; the ratio is its rate over that of the default
spin count, measured in the same round. Every command is a process of its own, because the library
reads the variable when it is loaded.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from measure import Table, add_options, spread
from throughput import bare_training, save_untrained, write_images

from anomaly_cli.commands import localize
from anomaly_cli.config.commands import LocalizeConfig, MapConfig
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.maps import fused_map
from models.build import one_class_vae
from models.config import vae_config

BATCH = 4
VARIABLE = "GOMP_SPINCOUNT"
SPINS = (None, "1000", "20000")  # None: the default of the library
NEIGHBOUR = 3600.0  # seconds after which a forgotten neighbour ends by itself


def forward(_folder: Path, length: float) -> float:
    """Measure images a second that the default network encodes."""
    config = vae_config(TrainConfig().network)
    vae = one_class_vae(config).eval()
    images = torch.rand(BATCH, 3, config.image_size, config.image_size)
    images = images.contiguous(memory_format=torch.channels_last)
    start = time.perf_counter()
    count = 0
    with torch.inference_mode():
        while time.perf_counter() < start + length:
            vae.encode(images)
            count += BATCH
    return count / (time.perf_counter() - start)


def train(_folder: Path, length: float) -> float:
    """Measure images a second of forward, backward and Adam of the default network."""
    config = vae_config(TrainConfig().network)
    images = torch.rand(BATCH, 3, config.image_size, config.image_size)
    step = bare_training(config, images.contiguous(memory_format=torch.channels_last), 1)
    step()
    rates, end = [], time.perf_counter() + length
    while time.perf_counter() < end:
        rates.append(step())
    return statistics.harmonic_mean(rates)


def run_localize(folder: Path, _length: float) -> float:
    """Measure images a second of the whole command with all its files."""
    config = LocalizeConfig(
        model=folder.parent / "model.safetensors",
        images=(str(folder.parent / "images"),),
        output=folder / "results",
        map=MapConfig(device="cpu"),
        overwrite=True,
    )
    start = time.perf_counter()
    count = len(localize.run(config).records)
    return count / (time.perf_counter() - start)


COMMANDS = {"forward": forward, "train": train, "localize": run_localize}


class Child:
    """Process that has loaded everything, and runs one command whenever it is asked.

    Args:
        command: key of COMMANDS.
        folder: model and images.
        spin: spin count; None is the default of the library.
    """

    def __init__(self, command: str, folder: Path, spin: str | None) -> None:
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environment |= {} if spin is None else {VARIABLE: spin}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--child", command, str(folder)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, length: float) -> None:
        """Begin to compute for some seconds."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        print(length, file=self.process.stdin, flush=True)

    def wait(self) -> float:
        """Wait for the rate, in images a second."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        return float(self.process.stdout.readline())

    def measure(self, length: float) -> float:
        """Compute for some seconds, and return the rate."""
        self.start(length)
        return self.wait()

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.communicate()


def run_child(command: str, folder: Path) -> None:
    """Run a command once for each line of the input, which is its length in seconds."""
    for line in sys.stdin:
        print(COMMANDS[command](folder, float(line)), flush=True)


@contextmanager
def neighbour(folder: Path, *, is_there: bool) -> Iterator[None]:
    """Run one forward pass after the other, with the default spin count, beside what follows."""
    if not is_there:
        yield
        return
    child = Child("forward", folder, None)
    try:
        child.measure(0.1)  # it has loaded everything
        child.start(NEIGHBOUR)
        yield
    finally:
        child.end()


def measure(folder: Path, commands: Sequence[str], work: tuple[float, int], table: Table) -> None:
    """Add a row for each command and spin count, alone and beside a neighbour.

    Args:
        folder: model and images.
        commands: keys of COMMANDS.
        work: seconds of each measurement, and rounds of them.
        table: the rows.
    """
    length, rounds = work
    for command in commands:
        children = {spin: Child(command, folder / f"spin{spin}", spin) for spin in SPINS}
        try:
            for child in children.values():
                child.measure(0.1)
            for is_busy in (False, True):
                with neighbour(folder, is_there=is_busy):
                    rates = [
                        {s: c.measure(length) for s, c in children.items()} for _ in range(rounds)
                    ]
                where = "beside a neighbour" if is_busy else "alone"
                for spin in SPINS:
                    ratio = spread([of_round[spin] / of_round[None] for of_round in rates])
                    rate = spread([of_round[spin] for of_round in rates])
                    table.add(command, where, spin or "default", rate, ratio)
        finally:
            for child in children.values():
                child.end()


def main() -> None:
    """Print the table, or run one command for it."""
    if sys.argv[1:2] == ["--child"]:
        run_child(sys.argv[2], Path(sys.argv[3]))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no child is left behind
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--commands", default=",".join(COMMANDS), help="some of the commands")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    options = parser.parse_args()
    columns = ("command", "machine", VARIABLE, "images/s", "over default")
    table = Table("busy", columns, options.json)
    with tempfile.TemporaryDirectory() as name:
        folder, config = Path(name), vae_config(TrainConfig().network)
        spec = fused_map(config)
        assert spec is not None  # noqa: S101 - the default network has one
        save_untrained(folder / "model.safetensors", config, spec)
        write_images(folder / "images", 8 if options.quick else 60, 900)
        work = (1.0, 1) if options.quick else (options.seconds, options.rounds)
        measure(folder, options.commands.split(","), work, table)
    table.save()


if __name__ == "__main__":
    main()
