"""The command `python -m fuzz`: processes of several targets side by side, and a table."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fuzz import FAILURES
from fuzz.worker import MODULES, find_target, kind_of, read_file

_ROOT = Path(__file__).parent.parent


@dataclass
class Figures:
    """What came out of one target."""

    target: str
    read: int = 0  # files
    slowest: float = 0.0  # call, in seconds
    peak: float = 0.0  # of the resident memory of a process, in MB
    faults: Counter[str] = field(default_factory=Counter)  # by kind


def main() -> int:
    """Run campaigns, or read one file again; exit with 1 if there are faults."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"some of {', '.join(MODULES)}; default: all")
    parser.add_argument("--seconds", type=float, default=10, help="time for each target")
    parser.add_argument("--count", type=int, default=0, help="files of each target, instead")
    parser.add_argument("--seed", type=int, default=0, help="of all random choices")
    jobs = min(os.cpu_count() or 1, 4)  # each takes up to 1 GB
    parser.add_argument("--jobs", type=int, default=jobs, help="processes at once")
    parser.add_argument("--file", type=Path, help="read this file again, with one target")
    options = parser.parse_args()
    names = options.targets or list(MODULES)
    if unknown := set(names) - set(MODULES):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    FAILURES.mkdir(exist_ok=True)
    if options.file:
        return _read_again(names[0], options.file)
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(lambda name: run_target(name, options), names)
        return _show(results)


def _read_again(name: str, path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, folder))
        reason = read_file(find_target(name), copy)
    print(reason or f"{path} keeps the rule")
    return int(bool(reason))


def _show(results: Iterable[Figures]) -> int:
    print(f"{'target':14}{'files':>8}{'slowest':>10}{'peak':>10}{'faults':>8}")
    is_clean = True
    for row in results:
        numbers = f"{row.read:8,}{row.slowest:8.2f} s{row.peak:7.0f} MB{row.faults.total():8}"
        print(f"{row.target:14}{numbers}", flush=True)
        is_clean = is_clean and not row.faults
    return int(not is_clean)


def run_target(name: str, options: argparse.Namespace) -> Figures:
    """Run processes of one target, one after the other, until there were enough files."""
    figures, begin = Figures(name), time.monotonic()
    while True:
        left = options.seconds - (time.monotonic() - begin)
        count = options.count - figures.read if options.count else 0
        if figures.read and (count <= 0 if options.count else left <= 0):
            return figures
        with tempfile.TemporaryDirectory() as folder:
            first = str(figures.read)
            arguments = [name, folder, first, str(count), str(left), str(options.seed)]
            code, last_words = _follow(figures, arguments)
            fatal = next(Path(folder).glob(f"{name}-*"), None)
            if fatal:
                shutil.copyfile(fatal, FAILURES / fatal.name)
                figures.read = int(fatal.stem.split("-")[1]) + 1
                _add_fault(figures, fatal.name, last_words, kind_of(last_words))
            elif code:
                raise SystemExit(f"{name} has drawn no file: {last_words}")


def _follow(figures: Figures, arguments: list[str]) -> tuple[int, str]:
    """Run one process, and add what it tells to the figures.

    Returns:
        Its exit code, and the end of its stderr.
    """
    command = [sys.executable, "-m", "fuzz.worker", *arguments]
    before = figures.read
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        for line in process.stdout or ():
            told = json.loads(line)
            if "fault" in told:
                _add_fault(figures, told["fault"], told["reason"], told["kind"])
                continue
            figures.read = before + told["read"]
            figures.slowest = max(figures.slowest, told["slowest"])
            figures.peak = max(figures.peak, told["peak"])
        code = process.wait()
        log.seek(0)
        return code, f"exit code {code}\n{log.read()[-3000:]}"


def _add_fault(figures: Figures, name: str, reason: str, kind: str) -> None:
    """Count a fault; the reason is printed, and the file is kept, for the first two of a kind."""
    figures.faults[kind] += 1
    if figures.faults[kind] > 2:
        (FAILURES / name).unlink()
    else:
        print(f"{FAILURES / name}:\n{reason}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
