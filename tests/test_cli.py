"""The command line as a whole: help, version, the installed script, and its documentation."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import run_cli
from typer.main import get_command

import anomaly_cli
from anomaly_cli.cli import app
from anomaly_cli.errors import DataError

ROOT = Path(__file__).parent.parent
COMMANDS: dict[str, typer.core.TyperCommand] = get_command(app).commands  # type: ignore[attr-defined]
SCRIPT = Path(sys.executable).with_name("anomaly-cli")


def run_script(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the installed console script in a process of its own."""
    command = [str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_version_is_that_of_the_package() -> None:
    outcome = run_cli("--version")
    assert (outcome.code, outcome.stdout) == (0, f"anomaly-cli {anomaly_cli.__version__}\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command_and_the_exit_codes(flag: str) -> None:
    outcome = run_cli(flag)
    assert outcome.code == 0
    for name in COMMANDS:
        assert name in outcome.stdout
    assert "130" in outcome.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_explains_itself(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name == "help", parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    """The README names each command; docs/cli.md, which `make docs` writes, each option."""
    assert f"anomaly-cli {name}" in (ROOT / "README.md").read_text()
    reference = (ROOT / "docs" / "cli.md").read_text().split(f"## `anomaly-cli {name}`")[1]
    for parameter in COMMANDS[name].params:
        for option in parameter.opts:
            if option.startswith("--"):
                section = reference.split("\n## ")[0].replace(", --", "`--")  # a second name
                assert f"`{option}" in section, f"{option}: run make docs"


def test_an_unknown_option_is_a_usage_error() -> None:
    outcome = run_cli("train", "--epoch", "3")
    assert outcome.code == 2
    assert "--epochs" in outcome.stderr  # the one that was meant
    assert outcome.stdout == ""


def test_the_installed_script_writes_to_the_right_stream() -> None:
    """Results on stdout, one line of error on stderr, the documented exit code, no traceback."""
    good = run_script("presets")
    assert good.returncode == 0
    assert "paper" in good.stdout
    assert good.stderr == ""
    bad = run_script("presets", "papr")
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr.count("\n") == 1
    assert "did you mean paper" in bad.stderr


def test_results_and_what_to_do_next_are_streams_of_their_own(tmp_path: Path) -> None:
    good = run_cli("sample", tmp_path / "data", "--category", "brick", "--image-size", 32)
    assert good.code == 0
    assert "brick" in good.stdout
    assert "next: anomaly-cli train" in good.stderr
    bad = run_cli("train", "--data", tmp_path / "data", "--category", "steel")
    assert bad.code == 3
    assert bad.stdout == ""
    assert bad.stderr.count("\n") == 1
    assert "found: brick" in bad.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """Of any error: the command does not catch it, and Python prints it."""
    with pytest.raises(DataError, match="nowhere"):
        run_cli("--debug", "train", "--data", tmp_path / "nowhere")
    outcome = run_script("--debug", "presets", "papr")
    assert outcome.returncode == 1
    assert "Traceback" in outcome.stderr
    assert "ConfigError" in outcome.stderr


def test_module_is_the_script() -> None:
    command = [sys.executable, "-P", "-m", "anomaly_cli", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == run_cli("--version").stdout


@pytest.mark.parametrize("is_buffered", [False, True])
def test_a_reader_that_has_seen_enough_is_no_traceback(is_buffered: bool) -> None:
    """As in `anomaly-cli presets paper | head -0`: while text is written, or at the end."""
    app = "lambda: sys.stdout.write('x')" if is_buffered else "cli.app"
    code = f"import sys; from anomaly_cli import cli; cli.app = {app}; cli.main()"
    command = [sys.executable, "-c", code, "presets", "paper"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_data_folder_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANOMALY_CLI_DATA", str(tmp_path / "elsewhere"))
    outcome = run_cli("train", "--category", "bottle")
    assert outcome.code == 3
    assert "elsewhere does not exist" in outcome.stderr
