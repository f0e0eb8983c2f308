"""The direction of imports, the size of files, and what a command walks through."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import Trained, run_cli

ROOT = Path(__file__).parent.parent
# A room imports rooms of later floors and, on its own floor, itself alone. `TYPE_CHECKING` counts.
FLOORS = [
    {"cli"},
    {"commands"},
    {"paper"},
    {"evaluation", "disentangle"},
    {"training", "export"},
    {"detector", "data"},
    {"pictures"},
    {"config"},
    {"files", "metrics"},
    {"errors", "progress", "models"},
]
# Upwards for their version alone, and for the names that `anomaly_cli` loads when they are used.
ROOTS = {"__init__", "__main__"}
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
    """List full names of everything that a file imports, wherever in it, for types too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(name: str) -> str | None:
    """Find the room of a module: `models`, or a part of `anomaly_cli`; None for others."""
    first, *rest = name.split(".")
    if first == "models":
        return "models"
    return rest[0] if first == "anomaly_cli" and rest else None


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def name_of(path: Path) -> str:
    """Such as `anomaly_cli.commands.train`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_the_floors(path: Path) -> None:
    own = room_of(name_of(path))
    assert own is not None
    if own in ROOTS:
        return
    names = imports_of(path)
    rooms = {room_of(name) for name in names} - {None, "__version__"}
    for room in rooms - {own}:
        assert room is not None
        assert floor_of(room) > floor_of(own), f"{own} imports {room}"
    roots = {name.split(".")[0] for name in names}
    if own == "models":
        assert roots <= {*sys.stdlib_module_names, "torch", "torchvision", "models"}
    if own != "cli":
        assert not roots & {"rich", "typer"}
    assert "torchvision.models" not in {n for n in names if not n.startswith("torchvision.models.")}


def test_no_module_lies_flat_beside_the_rooms() -> None:
    flat = {path.stem for path in (ROOT / "anomaly_cli").glob("*.py")}
    assert flat == ROOTS | {"errors", "progress"}


def test_no_two_files_import_each_other() -> None:
    """A circle of files would make one of them depend on who is imported first."""
    known = {name_of(path).removesuffix(".__init__"): path for path in MODULES}

    def edges(path: Path) -> set[str]:
        found = {n if n in known else n.rpartition(".")[0] for n in imports_of(path)}
        return found & known.keys() - {name_of(path).removesuffix(".__init__"), "anomaly_cli"}

    graph = {name: edges(path) for name, path in known.items() if name != "anomaly_cli"}
    while graph:
        leaves = {name for name, needed in graph.items() if not needed & graph.keys()}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in leaves}


def test_localizing_one_image_walks_through_six_rooms(trained: Trained, tmp_path: Path) -> None:
    """Rooms of which a function is called; constants and classes that are built do not count."""
    walked: set[str] = set()

    def watch(frame: object, event: str, _argument: object) -> None:
        if event == "call" and not frame.f_code.co_name.startswith("<"):  # type: ignore[attr-defined]
            room = room_of(frame.f_globals.get("__name__", ""))  # type: ignore[attr-defined]
            is_setting_built = frame.f_code.co_name in {"__post_init__", "__init__"}  # type: ignore[attr-defined]
            if room is not None and not is_setting_built:
                walked.add(room)

    image = trained.data / "disc/test/hole/000.png"
    run_cli("localize", trained.model, image, "--output", tmp_path / "first")  # loads everything
    sys.setprofile(watch)
    try:
        outcome = run_cli("localize", trained.model, image, "--output", tmp_path / "results")
    finally:
        sys.setprofile(None)
    assert outcome.code == 0
    rooms = walked - {"models", "errors", "progress", "__init__"}
    assert len(rooms) <= 6, sorted(rooms)


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_loads_nothing_heavy(argument: str) -> None:
    """`anomaly-cli --help` answers at once: torch alone would take seconds."""
    code = (
        "import sys; from anomaly_cli.cli import app\n"
        f"try: app([{argument!r}])\n"
        "except SystemExit: pass\n"
    )
    assert loaded_by(code) == "LOADED []"


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import anomaly_cli; dir(anomaly_cli)\n") == "LOADED []"


def test_default_network_needs_no_torchvision() -> None:
    """It loads torch's compiler: both together took as long as all else before the first image."""
    code = (
        "from anomaly_cli.commands import localize, train\n"
        "from anomaly_cli.config.train import TrainConfig\n"
        "from models.build import build_network\n"
        "build_network(TrainConfig().network)\n"
    )
    assert loaded_by(code, ["torchvision", "torch._dynamo"]) == "LOADED []"


def loaded_by(code: str, libraries: Sequence[str] = HEAVY) -> str:
    """List which of some libraries are loaded after some code has run in a fresh process."""
    code = f"import sys\n{code}print('LOADED', [m for m in {libraries!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    """400 lines a file; 45 lines and 7 parameters a function, but for the options of a command."""
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            if path.parent.name == "cli" and node.name in {path.stem, "_root"}:
                continue  # a command, whose parameters are its options
            body = node.body[1:] if ast.get_docstring(node) else node.body
            first = body[0].lineno if body else node.lineno
            lines = (node.end_lineno or first) - first + 1
            assert lines <= 45, f"{node.name} has {lines} lines without its docstring"
            arguments = [*node.args.args, *node.args.kwonlyargs]
            count = len([a for a in arguments if a.arg not in {"self", "cls"}])
            assert count <= 7, f"{node.name} has {count} parameters"


def test_no_window_is_ever_opened() -> None:
    """OpenCV's headless package has no such functions, and either package has to do."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"imshow", "namedWindow", "waitKey", "destroyAllWindows"}
