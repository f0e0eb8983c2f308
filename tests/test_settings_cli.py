"""Flags, environment, `--config`, `--preset` and defaults: who wins, and what a mistake says."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import TRAIN_OPTIONS, Trained, run_cli
from typer.main import get_command

from anomaly_cli.cli import app
from anomaly_cli.cli.progress import TerminalProgress
from anomaly_cli.commands import disentangle, evaluate, explain, localize, reproduce, train
from anomaly_cli.config.presets import preset_names, preset_text
from anomaly_cli.config.train import default_options
from models.config import Attention

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
MODULES: dict[str, Any] = {
    "train": train,
    "localize": localize,
    "evaluate": evaluate,
    "explain": explain,
    "disentangle": disentangle,
    "reproduce": reproduce,
}


class Stopped(Exception):  # noqa: N818
    """Ends a command where it would begin to work."""


class Recorder:
    """Records the configuration of a command instead of running it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config: Any = None
        self.resolved: Any = None
        self.progress: Any = None
        for module in MODULES.values():
            monkeypatch.setattr(module, "run", self._run)

    def _run(self, config: Any, resolved: Any = None, progress: Any = None) -> None:
        self.config, self.resolved, self.progress = config, resolved, progress
        raise Stopped

    def __call__(self, *arguments: object) -> Any:
        """Return the configuration of a command line."""
        with pytest.raises(Stopped):
            run_cli(*arguments)
        return self.config

    def source(self, key: str) -> str:
        """Where a setting of the last call came from."""
        return str(next(row.source for row in self.resolved.rows if row.key == key))


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Run commands that only record their configuration."""
    with monkeypatch.context() as patch:
        yield Recorder(patch)


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Write a configuration file."""
    path = tmp_path / "my.toml"

    def write(text: str) -> Path:
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("layers", "epochs", "source"),
    [
        (["flag", "environment", "config", "preset"], 1, "flag"),
        (["environment", "config", "preset"], 2, "environment ANOMALY_CLI_TRAIN_EPOCHS"),
        (["config", "preset"], 3, "config my.toml"),
        (["preset"], 300, "preset paper"),
        ([], default_options("none")["epochs"], "default"),
    ],
    ids=["flag", "environment", "config", "preset", "default"],
)
def test_each_layer_wins_over_those_below(
    resolve: Recorder,
    config: Any,
    monkeypatch: pytest.MonkeyPatch,
    layers: list[str],
    epochs: int,
    source: str,
) -> None:
    monkeypatch.chdir(config("epochs = 3\n").parent)
    if "environment" in layers:
        monkeypatch.setenv("ANOMALY_CLI_TRAIN_EPOCHS", "2")
    options = {"preset": ["--preset", "paper"], "config": ["--config", "my.toml"]}
    options["flag"] = ["--epochs", "1"]
    given = [options[layer] for layer in layers if layer in options]
    for order in (given, given[::-1]):  # the order of the options is of no account
        arguments = [word for words in order for word in words]
        assert resolve("train", "--guidance", "none", *arguments).epochs == epochs
        assert resolve.source("epochs") == source


def test_the_table_of_the_command_wins_over_the_top_level(resolve: Recorder, config: Any) -> None:
    """And tables and keys of other commands are theirs: one file serves all."""
    path = config(
        'data = "mine"\nseed = 1\nimage-size = 64\nrows = 3\n'
        "[train]\nseed = 2\n[evaluate]\nseed = 3\nreplicates = 0\n"
    )
    for command, seed in (("train", 2), ("evaluate", 3), ("disentangle", 1)):
        assert resolve(command, "--config", path).seed == seed
    found = resolve("train", "--config", path)
    assert (found.data, found.model.image_size) == (Path("mine"), 64)


def test_values_are_read_as_the_command_line_reads_them(resolve: Recorder, config: Any) -> None:
    """Text, numbers where text is meant, flags, choices, lists, and options of another name."""
    path = config(
        '[evaluate]\nmap = "fused"\nformat = "json"\nthreshold = 0.5\ngood = false\n'
        'attention = "exact"\nfail_under = ["pixel_auroc=0.8", "iou=0.1"]\n'
        '[disentangle]\nlambda = 2\ncompare = ["factor-vae", "ad-factor-vae"]\n'
    )
    found = resolve("evaluate", "--config", path)
    assert (found.map.source, found.formats, found.map.threshold) == ("fused", ("json",), 0.5)
    assert found.map.attention is Attention.EXACT
    assert not found.good
    assert found.fail_under == ("pixel_auroc=0.8", "iou=0.1")
    found = resolve("disentangle", "--config", path)
    assert (found.overlap, found.compare) == (2.0, ("factor-vae", "ad-factor-vae"))


def test_variables_are_named_after_the_option(
    resolve: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the parameter has another name; that of the command wins over that of all."""
    monkeypatch.setenv("ANOMALY_CLI_EVALUATE_MAP", "fused")
    monkeypatch.setenv("ANOMALY_CLI_EVALUATE_GOOD", "false")
    monkeypatch.setenv("ANOMALY_CLI_DATA", "of/all")
    found = resolve("evaluate")
    assert (found.map.source, found.good, found.data) == ("fused", False, Path("of/all"))
    assert resolve.source("data") == "environment ANOMALY_CLI_DATA"
    monkeypatch.setenv("ANOMALY_CLI_EVALUATE_DATA", "its/own")
    assert resolve("evaluate").data == Path("its/own")
    assert resolve("train").data == Path("of/all")


def test_a_file_may_name_a_preset(resolve: Recorder, config: Any) -> None:
    path = config('preset = "paper"\nepochs = 5\n')
    found = resolve("train", "--config", path)
    assert (found.guidance, found.epochs) == ("none", 5)
    assert resolve.source("guidance") == "preset paper"
    assert resolve("train", "--config", path, "--preset", "mvtec").guidance == "synthetic"


def test_the_paper_preset_is_the_training_of_the_paper(resolve: Recorder) -> None:
    found = resolve("train", "--preset", "paper")
    assert (found.guidance, found.learning_rate, found.batch_size) == ("none", 1e-4, 16)
    assert (found.model.neck, found.model.reconstruction, found.model.beta) == ("none", "bce", 1.0)
    assert (found.model.image_size, found.model.latent_dim) == (256, 32)


ARGUMENTS = {
    "localize": ["model", "image.png"],
    "explain": ["model", "image.png"],
    "reproduce": ["table1"],
}


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("command", MODULES)
def test_every_preset_suits_every_command(resolve: Recorder, command: str, name: str) -> None:
    resolve(command, *ARGUMENTS.get(command, []), "--preset", name)


@pytest.mark.parametrize("command", MODULES)
def test_every_command_reports_its_progress_on_the_terminal(
    resolve: Recorder, command: str
) -> None:
    resolve(command, *ARGUMENTS.get(command, []))
    assert isinstance(resolve.progress, TerminalProgress)


MISTAKES = [
    ("epoch = 3", "config {file}: unknown key epoch; did you mean epochs?"),
    ("[train]\nepoch = 3", "config {file}: [train] has no key epoch; did you mean epochs?"),
    ("[train]\nrows = 3", "config {file}: [train] has no key rows"),
    ("[trian]\nepochs = 3", "config {file}: unknown table [trian]; did you mean train?"),
    ("[evaluate]\nrun = 3", "config {file}: [evaluate] has no key run; did you mean runs?"),
    ('config = "other.toml"', "config {file}: unknown key config"),
    ("batch-size = 2\nbatch_size = 3", "config {file}: batch-size is given twice"),
    ('epochs = "many"', "config {file}: epochs = many: "),
    ("epochs = 1.5", "config {file}: epochs = 1.5: "),
    ("epochs = true", "config {file}: epochs must be one value, got true"),
    ("epochs = [1]", "config {file}: epochs must be one value, got [1]"),
    ("fast = 1", "config {file}: fast must be true or false, got 1"),
    ("seed = -1", "config {file}: seed = -1: "),
    ('neck = "fpm"', "config {file}: neck = fpm: "),
    ("image_size = 100", "must be a multiple of 32, got 100 (image_size: config {file})"),
    ("epochs = 3\nseed = = 1", "--config {file} is not TOML: Invalid value (at line 2, column 8)"),
    ("epochs = 3 \xff", "--config {file} is not TOML: "),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "my.toml"
    path.write_bytes(text.encode("latin-1"))
    outcome = run_cli("train", "--data", tmp_path, "--config", path)
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (2, "", 1)
    assert message.format(file=path) in outcome.stderr


def test_lists_are_lists_where_the_option_is_given_several_times(config: Any) -> None:
    outcome = run_cli("evaluate", "--config", config('fail-under = "iou=0.1"'))
    assert (outcome.code, "fail_under must be a list, got iou=0.1" in outcome.stderr) == (2, True)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, message in (("x", "epochs = x: "), ("0", "--epochs must be at least 1, got 0 (")):
        monkeypatch.setenv("ANOMALY_CLI_TRAIN_EPOCHS", value)
        outcome = run_cli("train")
        assert (outcome.code, outcome.stderr.count("\n")) == (2, 1)
        assert message in outcome.stderr
        assert "environment ANOMALY_CLI_TRAIN_EPOCHS" in outcome.stderr


def test_a_file_or_preset_that_is_not_there(tmp_path: Path) -> None:
    outcome = run_cli("train", "--config", tmp_path / "none.toml")
    assert outcome.code == 2
    assert f"cannot read --config {tmp_path / 'none.toml'}: No such file" in outcome.stderr
    outcome = run_cli("train", "--preset", "papr")
    assert outcome.code == 2
    assert "unknown preset papr; did you mean paper? known: " in outcome.stderr


def test_presets_are_listed_and_printed() -> None:
    listed = run_cli("presets")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == preset_names()
    assert {"mvtec", "paper"} <= set(preset_names())
    assert run_cli("presets", "paper").stdout == preset_text("paper")
    assert run_cli("presets", "papr").code == 2


def test_a_preset_loads_nothing_heavy() -> None:
    code = (
        "import sys; from anomaly_cli.cli import app\n"
        "try: app(['train', '--preset', 'paper', '--help'])\n"
        "except SystemExit: pass\n"
        "print('LOADED', [m for m in ('torch', 'numpy', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "LOADED []" in result.stdout


def test_every_command_with_an_output_folder_reads_files() -> None:
    for name in MODULES:
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {"--config", "--preset"} <= options, name
        assert isinstance(COMMANDS[name], typer.core.TyperCommand)


ROUND_TRIPS = [
    ["train", "--epochs", 3, "--latent-dim", 4, "--beta", 1e-05, "--data", 'a "b" \\c'],
    ["train", "--fast", "--guidance", "none", "--attention", "gradcam", "--amp"],
    ["train", "--category", "one", "--no-amp"],
    ["train", "--preset", "paper", "--workers", 2],
    ["train", "--dataset", "mnist", "--category", 3, "--epochs", 2],
    ["train", "--dataset", "ucsd", "--image-size", 50],
    ["evaluate", "--map", "fused", "--no-good", "--fail-under", "iou=0.1", "--max-drop", 0.5],
    ["localize", "model", "one.png", "two.png", "--no-maps", "--threshold", "max"],
    ["explain", "model", "images", "--latents", "3,7", "--scores", "global"],
    ["disentangle", "--compare", "factor-vae,ad-factor-vae:1e2", "--lambda", 2, "--steps", 5],
    ["reproduce", "figure1", "figure6", "--guided", "--reduced", "--seeds", 2],
]


@pytest.mark.parametrize("arguments", ROUND_TRIPS, ids=lambda words: " ".join(map(str, words[:3])))
def test_the_settings_of_a_run_give_the_same_run(
    resolve: Recorder, config: Any, arguments: list[object]
) -> None:
    first = resolve(*arguments)
    text = resolve.resolved.to_toml()
    assert resolve(arguments[0], "--config", config(text)) == first
    again = tomllib.loads(resolve.resolved.to_toml())
    assert again == tomllib.loads(text)


def test_train_writes_settings_that_repeat_it(trained: Trained, resolve: Recorder) -> None:
    """The file in the folder of the model, with resolved defaults, is that of the command line.

    That such a file gives the same bytes again is tested in test_api.py and test_mnist.py.
    """
    written = tomllib.loads((trained.runs / "disc/settings.toml").read_text())["train"]
    assert (written["category"], written["image_size"], written["neck"]) == ("disc", 64, "none")
    assert not {"overwrite", "resume", "json", "config", "preset"} & set(written)
    again = resolve("train", "--config", trained.runs / "disc/settings.toml")
    assert again == resolve(
        "train", "--data", trained.data, "--category", "disc", "--output", trained.runs,
        "--epochs", 6, *TRAIN_OPTIONS, "--guidance", "none",
    )  # fmt: skip


def test_evaluate_writes_settings_that_repeat_it(trained: Trained, tmp_path: Path) -> None:
    """End to end: the file in the folder of the report, the resolved defaults among them."""
    out = tmp_path / "out"
    options = ["--runs", trained.runs, "--data", trained.data, "--replicates", 0, "--output", out]
    assert run_cli("evaluate", *options, "--format", "json").code == 0
    settings = out / "settings.toml"
    assert "replicates = 0  # flag\n" in settings.read_text()
    assert "batch_size = 16  # default\n" in settings.read_text()
    before = (out / "report.json").read_bytes()
    refused = run_cli("evaluate", "--config", settings)
    assert (refused.code, "already holds something" in refused.stderr) == (5, True)
    assert run_cli("evaluate", "--config", settings, "--overwrite").code == 0
    assert (out / "report.json").read_bytes() == before
