"""Kill commands at any moment, restart them, and compare the results with those of a whole run.

    python benchmarks/kills.py [--kills 102] [--seed 0] [--case train]

Each case runs once undisturbed. Then its command is started again and again and gets SIGKILL at a
moment drawn uniformly over that time. In every second kill, the folder holds the results of an
earlier run with other settings, which the command overwrites. A third of the restarted runs is
killed once more. Three things have to hold: each file that stands under its name is whole, no
restart is refused, and the results are those of the undisturbed run, byte for byte.

The restart has `--resume`; `evaluate` has no such option and starts anew with `--overwrite`. So
does a run that was killed before it changed the files of the earlier run.
"""

import argparse
import csv
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
import tifffile
import torch
from PIL import Image
from safetensors.torch import load_file

from anomaly_cli.cli import main as main_of_cli
from anomaly_cli.commands import disentangle

ROOT = Path(__file__).parent.parent
AGAIN = 1 / 3  # share of restarted runs that are killed, too
RESULTS = "out"  # folder of the results, in that of a run
KILLED = -signal.SIGKILL
SAVE_EVERY = 1.0  # seconds between states of `disentangle`, whose 30 no run here would reach

# Each run is forked from a process that has loaded torch, so that kills meet work and not imports.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [f"anomaly_cli.commands.{name}" for name in ("train", "localize", "evaluate", "disentangle")]
    + ["anomaly_cli.paper.extras", "anomaly_cli.evaluation.baselines"]
    + ["torch._inductor"]  # which torch loads when it is told to be deterministic
)


class Case(NamedTuple):
    """A command, and how it is restarted."""

    command: str  # run in a folder beside those of the data and the models
    earlier: str  # options of the earlier run whose results are overwritten
    can_resume: bool = True
    writes_to_models: bool = False  # so that each run needs its own copy


_TRAIN = (
    f"train --data ../data --category brick --output {RESULTS} --image-size 32 --latent-dim 2 "
    "--batch-size 4 --epochs"
)
_SPRITES = f"--output {RESULTS} --batch-size 8 --score-images 1000 --steps"
CASES = {
    "train": Case(f"{_TRAIN} 3 --guidance none", "--seed 1"),
    "train, guided": Case(f"{_TRAIN} 6", "--seed 1"),
    "localize": Case(
        f"localize ../models/brick ../data/brick/test --output {RESULTS} --batch-size 4 "
        "--latents top:1",
        "--threshold 0.5",
    ),
    "evaluate": Case(
        f"evaluate --runs models --data ../data --category brick --output {RESULTS} "
        "--replicates 50 --baselines",
        "--replicates 20",
        can_resume=False,
        writes_to_models=True,
    ),
    "disentangle": Case(f"disentangle {_SPRITES} 60", "--seed 1"),
    "disentangle, compared": Case(
        f"disentangle --compare beta-vae,ad-beta-vae --seeds 1 {_SPRITES} 20",
        "--learning-rate 0.001",
    ),
}
MODELS_OF = "train, guided"  # the case whose model the others use


# What may differ from the undisturbed run: how long it took. No result holds a date or a host.


def _without_durations(value: Any) -> Any:
    """Leave out `seconds`, the duration of a stretch of training steps."""
    if isinstance(value, dict):
        return {name: _without_durations(v) for name, v in value.items() if name != "seconds"}
    return [_without_durations(v) for v in value] if isinstance(value, list) else value


def _comparable_json(content: bytes) -> bytes:
    return json.dumps(_without_durations(json.loads(content))).encode()


def _comparable_csv(content: bytes) -> bytes:
    """Leave out durations of stretches, and speeds of epochs, which follow from durations."""
    rows = list(csv.reader(io.StringIO(content.decode())))
    kept = [i for i, name in enumerate(rows[0]) if name not in {"seconds", "images_per_second"}]
    return "\n".join(",".join(row[i] for i in kept) for row in rows).encode()


COMPARABLE: dict[str, Callable[[bytes], bytes]] = {
    "scores.json": _comparable_json,
    "comparison.json": _comparable_json,
    "metrics.csv": _comparable_csv,
}


# What a whole file is


def _check_table(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as stream:
        widths = {len(row) for row in csv.reader(stream)}
    if len(widths) != 1 or not path.read_bytes().endswith(b"\n"):
        raise ValueError(f"rows of {widths} fields, or no end of the last row")


def _check_picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _check_manifest(path: Path) -> None:
    """Parse all lines but the last: its line end is missing where it was cut, as it may be."""
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        json.loads(line)


def _check_page(path: Path) -> None:
    if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
        raise ValueError("the page has no end")


def _check_text(path: Path) -> None:
    if not path.read_text(encoding="utf-8").endswith("\n"):
        raise ValueError("the last line has no end")


CHECKS: dict[str, Callable[[Path], object]] = {
    ".csv": _check_table,
    ".html": _check_page,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": _check_manifest,
    ".md": _check_text,
    ".npz": lambda path: dict(np.load(path)),
    ".png": _check_picture,
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".safetensors": load_file,
    ".tiff": tifffile.imread,
    ".toml": lambda path: tomllib.loads(path.read_text(encoding="utf-8")),
    ".xml": ET.parse,
}


def find_damage(path: Path) -> str:
    """Say what is wrong with a file; empty if it is whole."""
    try:
        CHECKS[path.suffix](path)
    # A damaged file may raise anything, and each such error is what is looked for.
    except Exception as error:  # noqa: BLE001
        return f"{path}: {type(error).__name__}: {error}"
    return ""


def list_results(folder: Path) -> dict[str, Path]:
    """List the files under their final names, by their place in the folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial"]
    return {path.relative_to(folder).as_posix(): path for path in sorted(files)}


def hash_results(folder: Path, *, with_durations: bool = False) -> dict[str, str]:
    """Hash the content of each file, without durations unless they are asked for."""
    hashes = {}
    for name, path in list_results(folder).items():
        content = path.read_bytes()
        if not with_durations and path.name in COMPARABLE:
            content = COMPARABLE[path.name](content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


@dataclass
class Reference:
    """An undisturbed run of a case, in folders beside those of its kills."""

    case: Case
    work: Path  # with folders of the data and of the models
    seconds: float
    hashes: dict[str, str]
    earlier: Path  # results of an earlier run


@dataclass
class Counts:
    """Counts of what happened to the runs of a case."""

    kills: int = 0
    with_results: int = 0  # first kills of a run that had begun to change files
    damaged: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    partial: int = 0  # hidden files of writes that were cut off, when all is done

    @property
    def faults(self) -> list[str]:
        """Descriptions of everything that must not happen."""
        return [*self.damaged, *self.refused, *self.different]

    def add(self, other: "Counts") -> None:
        """Add the counts of one run."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def run_command(command: str, folder: Path, messages: Path) -> None:
    """Be the command, in its own process and folder; stderr goes to a file."""
    os.chdir(folder)
    os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    disentangle.SAVE_EVERY = SAVE_EVERY
    sys.argv = ["anomaly-cli", *command.split()]
    main_of_cli()


class Ended(NamedTuple):
    """How a process ended."""

    code: int  # -9: killed
    said: str  # the end of its stderr
    seconds: float


def run(command: str, folder: Path, *, kill_after: float | None = None) -> Ended:
    """Run a command in a folder; send it SIGKILL if it still runs after some seconds."""
    messages = folder.with_name(f"{folder.name}.stderr")
    began = time.perf_counter()
    process = PROCESSES.Process(target=run_command, args=(command, folder, messages))
    process.start()
    process.join(kill_after)
    process.kill()  # nothing happens to one that has ended
    process.join()
    seconds = time.perf_counter() - began
    said = messages.read_text(encoding="utf-8", errors="replace") if messages.exists() else ""
    return Ended(process.exitcode or 0, said[-500:].strip(), seconds)


def must_finish(command: str, folder: Path) -> float:
    """Run a command that has to succeed, and return the seconds it took."""
    ended = run(command, folder)
    if ended.code:
        raise SystemExit(f"{command} failed undisturbed: {ended.said}")
    return ended.seconds


def make_folder(folder: Path, case: Case) -> Path:
    """Make the folder of a run."""
    folder.mkdir()
    if case.writes_to_models:
        shutil.copytree(folder.parent / "models", folder / "models")
    return folder


def run_undisturbed(name: str, work: Path) -> Reference:
    """Run a case to its end, twice: as it is, and with the settings of the earlier run."""
    case, stem = CASES[name], name.replace(", ", "-")
    folder = make_folder(work / f"{stem}-whole", case)
    seconds = must_finish(case.command, folder)
    earlier = make_folder(work / f"{stem}-earlier", case)
    must_finish(f"{case.command} {case.earlier}", earlier)
    return Reference(case, work, seconds, hash_results(folder), earlier)


class Disturbed:
    """One run that is killed, and restarted until it ends."""

    def __init__(self, reference: Reference, number: int, generator: np.random.Generator) -> None:
        self.reference = reference
        self.case = reference.case
        self.generator = generator
        self.folder = reference.work / f"kill-{number:04}"
        self.is_overwriting = bool(number % 2)
        self.counts = Counts()
        self.name = f"{self.folder.name}{', overwriting' * self.is_overwriting}"

    def judge(self) -> Counts:
        """Kill, restart and compare; a folder without faults is removed."""
        is_untouched = self._kill_first()
        self.counts.with_results += not is_untouched
        is_anew = not self.case.can_resume or (is_untouched and self.is_overwriting)
        option = "--overwrite" if is_anew else "--resume"
        again = f"{self.case.command} {option}"
        if self.generator.random() < AGAIN:
            self._kill(again)
        ended = run(again, self.folder)
        if ended.code:
            self.counts.refused.append(f"{self.name}: {option} gives {ended.code}: {ended.said}")
        else:
            self._find_damages()
            self.counts.different += [f"{self.name}: {name}" for name in self._find_differences()]
        self.counts.partial += len(list(self.folder.rglob(".*.partial")))
        if not self.counts.faults:
            shutil.rmtree(self.folder)
        return self.counts

    def _kill_first(self) -> bool:
        """Kill the run before it ends; return whether all files are still as it found them."""
        is_killed = False
        while not is_killed:  # a moment near the end may be too late
            shutil.rmtree(self.folder, ignore_errors=True)
            make_folder(self.folder, self.case)
            if self.is_overwriting:
                shutil.copytree(self.reference.earlier, self.folder, dirs_exist_ok=True)
            before = hash_results(self.folder, with_durations=True)
            is_killed = self._kill(self.case.command + " --overwrite" * self.is_overwriting)
        return hash_results(self.folder, with_durations=True) == before

    def _kill(self, command: str) -> bool:
        """Kill a command at a moment of the time that it takes, unless it ends before."""
        moment = self.generator.uniform(0, self.reference.seconds)
        if run(command, self.folder, kill_after=moment).code != KILLED:
            return False
        self.counts.kills += 1
        self.name += f", killed after {moment:.2f} s"
        self._find_damages()
        return True

    def _find_damages(self) -> None:
        damages = map(find_damage, list_results(self.folder).values())
        self.counts.damaged += [f"{self.name}: {text}" for text in damages if text]

    def _find_differences(self) -> list[str]:
        """Name the files that are not those of the undisturbed run."""
        found, expected = hash_results(self.folder), self.reference.hashes
        return sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))


def run_campaign(names: list[str], kills: int, seed: int, work: Path) -> Iterator[list[object]]:
    """Yield a row of the table for each case, and print each fault when it is found."""
    must_finish("sample data --category brick --image-size 64 --count 20", work)
    models = run_undisturbed(MODELS_OF, work)
    shutil.copytree(work / "train-guided-whole" / RESULTS, work / "models")
    for place, name in enumerate(names):
        reference = models if name == MODELS_OF else run_undisturbed(name, work)
        generator = np.random.default_rng([seed, place])
        total = Counts()
        for number in range(1000 * place, 1000 * place + 1000):
            if total.kills >= kills // len(names):
                break
            counts = Disturbed(reference, number, generator).judge()
            for fault in counts.faults:
                print(f"{name}: {fault}", file=sys.stderr, flush=True)
            total.add(counts)
        lists = total.damaged, total.refused, total.different
        yield [
            *(name, f"{reference.seconds:.1f}", total.kills, total.with_results),
            *(map(len, lists)),
            total.partial,
        ]


def main() -> None:
    """Print the table, and fail if a number that has to be 0 is not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=102, help="over all cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", action="append", choices=list(CASES))
    options = parser.parse_args()
    names = options.case or list(CASES)
    is_well = True
    work = Path(tempfile.mkdtemp(prefix="anomaly-cli-kills-"))
    columns = "seconds|kills|with files|damaged files|refused|results that differ|cut writes left"
    print(f"| command | {columns.replace('|', ' | ')} |\n|{' --- |' * 8}", flush=True)
    for row in run_campaign(names, options.kills, options.seed, work):
        print(f"| {' | '.join(map(str, row))} |", flush=True)
        is_well &= row[4:7] == [0, 0, 0]
    if not is_well:
        raise SystemExit(f"the folders of the faults are kept in {work}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
