"""Speed of the tool over anomalib's, on the same folders of images: start, training, results.

    python benchmarks/others.py ENVIRONMENT [--quick] [--json FILE]

ENVIRONMENT is a virtual environment with anomalib, which needs other packages than the tool: `make
others` makes it. Both tools are whole processes, as a user starts them. Bars: 200 images 3 times as
fast as anomalib's PaDiM, import included and training left out; a training as fast as that of its
PatchCore, with a coreset of 2%; the start 10 times as fast.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

from measure import Table, add_options, paired, seconds
from throughput import save_untrained, write_images

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.maps import fused_map
from models.config import vae_config

SIZE = 900  # pixels of the images


class Work(NamedTuple):
    """Amount of work."""

    normal: int  # images to train on
    images: int  # to localize anomalies in
    repeats: int


FULL, QUICK = Work(200, 200, 3), Work(24, 8, 1)


class Others:
    """Both tools on the same two folders of images.

    Args:
        environment: virtual environment with anomalib.
        folder: for images and results.
        work: amount of work.
    """

    def __init__(self, environment: Path, folder: Path, work: Work) -> None:
        self.environment, self.folder, self.work = environment, folder, work
        write_images(folder / "normal", work.normal, SIZE)
        write_images(folder / "images", work.images, SIZE)
        config = vae_config(TrainConfig().network)
        spec = fused_map(config)
        assert spec is not None  # noqa: S101 - the default network has one
        save_untrained(folder / "model.safetensors", config, spec)

    def tool(self, *arguments: object) -> float:
        """Measure the seconds of one of our commands."""
        command = [sys.executable, "-m", "anomaly_cli", *map(str, arguments)]
        return seconds(partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL))

    def anomalib(self, model: str) -> dict[str, float]:
        """Measure the seconds of import, fit and prediction of one of anomalib's models."""
        script = Path(__file__).with_name("run_anomalib.py")
        folders = [self.folder / name for name in ("normal", "images", "anomalib")]
        command = [str(part) for part in (self.environment / "bin/python", script, model, *folders)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        shutil.rmtree(self.folder / "anomalib", ignore_errors=True)
        line = next(line for line in result.stdout.splitlines() if line.startswith("TIMES "))
        found: dict[str, float] = json.loads(line.removeprefix("TIMES "))
        return found

    def localize(self) -> float:
        """Measure the seconds of `localize`, start included."""
        options = ("--output", self.folder / "results", "--overwrite", "--device", "cpu")
        return self.tool(
            "localize", self.folder / "model.safetensors", self.folder / "images", *options
        )

    def train(self, *options: str) -> float:
        """Measure the seconds of `train`, start included."""
        data = ("--dataset", "folder", "--data", self.folder / "normal")
        output = ("--output", self.folder / "runs", "--overwrite", "--device", "cpu")
        return self.tool("train", *data, *output, *options)

    def bench_start(self, table: Table) -> None:
        """Add rows of `--help`, and of the import that a Python program needs."""
        their = self.environment / "bin"
        imports = {
            "--help": (
                [sys.executable, "-m", "anomaly_cli", "--help"],
                [their / "anomalib", "--help"],
            ),
            "import of the detector": (
                [sys.executable, "-c", "from anomaly_cli import Detector"],
                [their / "python", "-c", "from anomalib.models import Padim"],
            ),
        }
        for name, commands in imports.items():
            ours, theirs = (
                partial(seconds, partial(subprocess.run, command, capture_output=True, check=True))
                for command in commands
            )
            pair = paired(ours, theirs, self.work.repeats)
            table.add(name, *pair, "<= 0.1" if name == "--help" else "-")


def main() -> None:
    """Print the table; each row is saved as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("environment", type=Path)
    options = parser.parse_args()
    work = QUICK if options.quick else FULL
    columns = ("what", "tool, s", "anomalib, s", "ratio", "bar")
    table = Table("others", columns, options.json)
    with tempfile.TemporaryDirectory() as name:
        others = Others(options.environment, Path(name), work)
        others.bench_start(table)
        table.save()

        def padim() -> float:
            times = others.anomalib("padim")
            return times["import"] + times["predict"]

        what = f"{work.images} images, start to end, PaDiM"
        table.add(what, *paired(others.localize, padim, work.repeats), "<= 0.33")
        table.save()
        if options.quick:
            return

        def patchcore() -> float:
            times = others.anomalib("patchcore")
            return times["import"] + times["fit"]

        for speed in ((), ("--fast",)):
            what = " ".join((f"training on {work.normal} images, PatchCore", *speed))
            table.add(what, *paired(partial(others.train, *speed), patchcore, 1), "<= 1")
            table.save()


if __name__ == "__main__":
    main()
