"""One process of a campaign: it draws damaged files of one target, and reads each.

    python -m fuzz.worker TARGET FOLDER FIRST COUNT SECONDS SEED

It prints a line of JSON for each fault, and one with figures now and then. The file that is being
read lies in FOLDER under its number, so that it is still there if it kills this process.
"""

import faulthandler
import importlib
import itertools
import json
import re
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

from anomaly_cli.errors import AnomalyCliError
from fuzz import FAILURES, MEGABYTES, SECONDS_PER_CALL
from fuzz.target import Target

MODULES = {
    **dict.fromkeys(("images", "masks"), "pictures"),
    **dict.fromkeys(("maps", "digits", "sprites"), "arrays"),
    **dict.fromkeys(("models", "calibrations", "states", "weights", "networks"), "models"),
    **dict.fromkeys(("archives", "packed"), "archives"),
    **dict.fromkeys(("settings", "manifests", "baselines", "lists"), "texts"),
}  # file of each target: a process loads the libraries of its own target alone
# Beyond those at the start. Readers ask for 4 GiB where a length of 32 bits says so, and use none.
_SPARE = 6 * 2**30  # bytes
_LARGEST_FILE = 2**30  # bytes
_FIGURES_EVERY = 50  # files


def find_target(name: str) -> Target:
    """Import the target of a name."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))  # example reports are seeds
    target: Target = importlib.import_module(f"fuzz.{MODULES[name]}").TARGETS[name]
    return target


def read_file(target: Target, path: Path) -> str:
    """Read a file as the tool does; tell how it breaks the rule, or return an empty text."""
    faulthandler.dump_traceback_later(SECONDS_PER_CALL, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except AnomalyCliError as error:
        return _hidden_excess(error)
    except Exception:  # noqa: BLE001 - whatever it is, it is the fault that is looked for
        return traceback.format_exc()
    finally:
        faulthandler.cancel_dump_traceback_later()
    peak = peak_megabytes()
    return f"the process has taken {peak:.0f} MB" if peak > MEGABYTES else ""


def _hidden_excess(error: BaseException) -> str:
    """Tell whether an error stands for an array or a tensor of more memory than there is.

    A reader that asks for as many bytes as a header claims is no such case: it uses those that the
    file has.
    """
    cause: BaseException | None = error
    while cause is not None:
        if re.search("(?i)allocate|insufficient memory", str(cause)):
            return f"it asked for over {_SPARE:,} bytes: {cause}"
        cause = cause.__cause__
    return ""


def kind_of(reason: str) -> str:
    """Name the kind of a fault: the last line of code of its traceback, and its words."""
    places = re.findall(r'File "(.*)", line (\d+)', reason)
    words = reason.strip().splitlines()[-1]
    return f"{places[-1] if places else ''} {words.split(':')[0]}"


def peak_megabytes() -> float:
    """Return the peak of the resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def bound_resources() -> None:
    """Refuse requests for very much memory, and files without an end, before the machine does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    statistics = Path("/proc/self/statm")
    if statistics.is_file():
        taken = int(statistics.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _SPARE, taken + _SPARE))


def _tell(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def main() -> None:
    """Read files until there were enough, or the time is over, or one took too much memory."""
    name, folder, first, count, seconds, seed = sys.argv[1:]
    target, place = find_target(name), Path(folder)
    target.draw(Random(0))  # makes the seeds
    bound_resources()
    slowest, end = 0.0, time.monotonic() + float(seconds)
    for read in itertools.count(1):
        number = int(first) + read - 1
        file = target.draw(Random(f"{seed} {name} {number}"))
        path = place / f"{name}-{number:06}{file.suffix}"
        path.write_bytes(file.content)
        begin = time.monotonic()
        reason = read_file(target, path)
        slowest = max(slowest, time.monotonic() - begin)
        if reason:
            shutil.copyfile(path, FAILURES / path.name)
            _tell(fault=path.name, reason=reason, kind=kind_of(reason))
        path.unlink()
        is_last = read == int(count) or (count == "0" and time.monotonic() > end)
        # The peak stays, so that a new process has to go on after a file that took too much.
        is_over = is_last or peak_megabytes() > MEGABYTES
        if is_over or reason or read % _FIGURES_EVERY == 0:
            _tell(read=read, slowest=slowest, peak=peak_megabytes())
        if is_over:
            break


if __name__ == "__main__":
    main()
