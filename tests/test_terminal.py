"""Text that leaves the program: any encoding, a full disk, names with control characters."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import draw_part, run_cli

from anomaly_cli.files.images import write_png


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(3):
        write_png(folder / f"好{number}.png", draw_part(number))
    return folder


def run(*arguments: object, stdout: int = subprocess.PIPE, **environment: str) -> tuple[int, str]:
    """Run the command line as a process of its own: exit code, and all that it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "anomaly_cli", *map(str, arguments)],
        stdout=stdout, stderr=subprocess.PIPE, check=False, env=os.environ | environment,
    )  # fmt: skip
    return done.returncode, ((done.stdout or b"") + done.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_names_that_the_stream_cannot_show_are_escaped(photos: Path, encoding: str) -> None:
    code, text = run(
        "check-data", "--dataset", "folder", "--data", photos, "--json", PYTHONIOENCODING=encoding
    )
    assert "Traceback" not in text
    assert code in {0, 3}, text
    code, text = run(
        "check-data",
        "--dataset",
        "folder",
        "--data",
        photos.parent / "缺",
        PYTHONIOENCODING=encoding,
    )
    assert code == 3
    assert "Traceback" not in text
    assert ("缺" in text) == (encoding == "utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("options", [["--json"], []])
def test_a_full_disk_is_one_line_and_exit_code_5(photos: Path, options: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        code, text = run(
            "check-data", "--dataset", "folder", "--data", photos, *options, stdout=full.fileno()
        )
    assert code == 5
    assert "error: cannot write the result: No space left on device" in text
    assert "Traceback" not in text


def test_a_hint_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "d;touch HIT;"
    outcome = run_cli("sample", folder, "--category", "brick", "--image-size", 32, "--count", 3)
    assert outcome.code == 0, outcome.stderr
    (hint,) = [line for line in outcome.stderr.splitlines() if line.startswith("next: ")]
    assert str(folder) in shlex.split(hint)


def test_control_characters_of_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    outcome = run_cli("check-data", "--data", tmp_path / "a\x1b[31mb\u202e")
    assert outcome.code == 3
    assert "\x1b" not in outcome.stderr
    assert "\u202e" not in outcome.stderr
    assert "\\x1b[31m" in outcome.stderr
