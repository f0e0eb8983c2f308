"""The direction of imports, kept by a test and not by memory (docs/design.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = {"config", "errors", "defaults", "files", "images", "__init__"}
HEAVY = [
    "torch",
    "torchvision",
    "numpy",
    "sklearn",
    "skimage",
    "cv2",
    "scipy",
    "PIL",
    "safetensors",
]
MODULES = sorted([*ROOT.glob("anomaly_cli/**/*.py"), *ROOT.glob("models/*.py")])


def imports_of(path: Path) -> set[str]:
    """Full names of everything a file imports at run time, wherever in it."""
    names = set()
    tree = ast.parse(path.read_text())
    only_for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in only_for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def place_of(path: Path) -> str:
    """Such as `models/vae` or `anomaly_cli/commands/train`."""
    return path.relative_to(ROOT).with_suffix("").as_posix()


@pytest.mark.parametrize("path", MODULES, ids=place_of)
def test_imports_go_one_way(path: Path) -> None:
    """Cli -> commands -> the rest -> models; leaves import leaves; only two files know rich."""
    names = imports_of(path)
    roots = {name.split(".")[0] for name in names}
    ours = {
        name.removeprefix("anomaly_cli.").split(".")[0] for name in names if "anomaly_cli." in name
    }
    place = place_of(path)
    if place.startswith("models/"):
        assert roots <= {*sys.stdlib_module_names, "torch", "torchvision", "models"}
    is_cli = place.startswith("anomaly_cli/cli/")
    if not is_cli and not place.startswith("anomaly_cli/console/"):
        assert not roots & {"rich", "typer"}
    if not is_cli and place != "anomaly_cli/__main__":
        assert "cli" not in ours
        if not place.startswith("anomaly_cli/commands/"):
            assert "commands" not in ours
    if place.removeprefix("anomaly_cli/") in LEAVES:
        assert ours <= LEAVES
    assert "torchvision.models" not in {n for n in names if not n.startswith("torchvision.models.")}


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_loads_nothing_heavy(argument: str) -> None:
    """`anomaly-cli --help` answers at once: torch alone would take seconds."""
    code = (
        "import sys; from anomaly_cli.cli import app\n"
        f"try: app([{argument!r}])\n"
        "except SystemExit: pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "LOADED []" in result.stdout


@pytest.mark.parametrize("path", MODULES, ids=place_of)
def test_files_stay_small(path: Path) -> None:
    """One purpose per file: 250 lines are the hard end."""
    assert len(path.read_text().splitlines()) <= 250
