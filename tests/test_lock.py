"""Two runs do not write to one folder at a time, and a lock ends with its run, however it ends."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Trained, run_cli

from anomaly_cli.errors import OutputError
from anomaly_cli.files import lock
from anomaly_cli.files.lock import lock_folder, open_output_folder

HOLD = """
import os, sys, time
from pathlib import Path
from anomaly_cli.files.lock import lock_folder
with lock_folder(Path(sys.argv[1])):
    if "--fork" not in sys.argv or os.fork() == 0:
        print("locked", flush=True)
    time.sleep(60)
"""


def hold(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start a process that has locked the folder."""
    command = [sys.executable, "-c", HOLD, str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_a_second_run_is_refused_and_told_why(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path / "runs"),
        pytest.raises(OutputError, match=r"another run is writing to .*runs; wait for it, or"),
        lock_folder(tmp_path / "runs"),
    ):
        pass


def test_a_lock_leaves_no_file_and_ends_with_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with open_output_folder(tmp_path / "runs", overwrite=False):
            assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("options", [(), ("--fork",)])
def test_a_lock_ends_when_its_run_is_killed(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A process that reads images for the run, and outlives it for seconds, holds no lock."""
    process = hold(tmp_path, *options)
    with pytest.raises(OutputError), lock_folder(tmp_path):
        pass
    process.kill()
    process.wait()
    with lock_folder(tmp_path):
        pass


def test_where_folders_cannot_be_locked_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with lock_folder(tmp_path):
        pass
    monkeypatch.setattr(lock, "fcntl", None)
    with lock_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write to .*file/runs"):
        lock_folder(tmp_path / "file" / "runs").__enter__()


def test_commands_refuse_a_folder_that_another_run_writes_to(
    trained: Trained, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    runs = {
        "train": ["--data", trained.data, "--category", "disc", "--output", shared],
        "localize": [trained.model, trained.data / "disc/test", "--output", shared],
        "explain": [trained.model, trained.data / "disc/test", "--output", shared],
        "evaluate": ["--data", trained.data, "--runs", trained.runs, "--output", shared],
        "disentangle": ["--data", "generated", "--steps", 1, "--output", shared],
        "sample": [shared],
    }
    for command, options in runs.items():
        with lock_folder(shared / "disc" if command == "train" else shared):
            outcome = run_cli(command, *options)
        assert outcome.code == 5, (command, outcome)
        assert "another run is writing to" in outcome.stderr
    assert {path.name for path in shared.iterdir()} == {"disc"}
    assert list((shared / "disc").iterdir()) == []
