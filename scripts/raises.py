"""List the `raise` statements that no test reached, from the data of `make coverage`.

    python scripts/raises.py [--data .coverage]

A raise of an error counts; `raise` alone, which passes on what was caught, does not. Exits with 1
if there are any.
"""

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).parent.parent
PACKAGES = ("anomaly_cli", "models")


def find_raises(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the code of each raise of an error in a file."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield node.lineno, " ".join((ast.get_source_segment(source, node) or "").split())


def main() -> None:
    """Print what was not reached, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=".coverage", help="file of `coverage combine`")
    data = CoverageData(parser.parse_args().data)
    data.read()
    total = missed = 0
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        lines = set(data.lines(str(path)) or ())
        for line, code in sorted(find_raises(path)):
            total += 1
            if line not in lines:
                missed += 1
                print(f"{path.relative_to(ROOT)}:{line}: {code[:100]}")
    print(f"{total - missed} of {total} raises were reached")
    raise SystemExit(missed > 0)


if __name__ == "__main__":
    main()
