"""Files are complete or absent, and nothing that is not ours is deleted.

The unwritable places lie below a regular file: `chmod` would not stop tests that run as root.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from anomaly_cli.errors import OutputError
from anomaly_cli.files import atomic
from anomaly_cli.files.atomic import (
    atomic_write,
    fingerprint,
    hash_file,
    prepare_output_folder,
    write_bytes,
    write_text,
)
from anomaly_cli.files.parse import parse_json, parse_toml
from anomaly_cli.files.tensors import write_state, write_tensor_file


def write_tree(root: Path, **files: str) -> list[Path]:
    """Write files into `root/deep` and give their paths in the order of the arguments."""
    for name, content in files.items():
        write_text(root / "deep" / name, content)
    return [root / "deep" / name for name in files]


def write_half(path: Path, error: BaseException) -> None:
    with atomic_write(path) as partial:
        partial.write_text("half")
        raise error


@pytest.fixture
def below_a_file(tmp_path: Path) -> Path:
    """Return a path that can neither be made nor written."""
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file" / "result.json"


# Atomic writes


def test_file_and_its_folders_are_written_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "c.bin", b"\x00\xff")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "a" / "b" / "c.bin"]
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"\x00\xff"


def test_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("half of the n")
        assert path.read_text() == "old"
        partial.write_text("new")
        written = partial.stat().st_ino
    assert path.read_text() == "new"
    assert path.stat().st_ino == written  # renamed, not copied
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_error_leaves_nothing_behind_and_keeps_the_old_file(
    tmp_path: Path, error: BaseException
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    for path in (old, new):
        with pytest.raises(type(error)):
            write_half(path, error)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_text() == "old"


def test_full_disk_is_an_output_error_that_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "map.tiff"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"cannot write .*map\.tiff: No space left on device$"):
        write_half(path, OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_block_that_writes_nothing_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"), atomic_write(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_path_below_a_file_is_an_output_error_that_names_it(below_a_file: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*result\.json: (File exists|Not a dir)"):
        write_text(below_a_file, "{}")
    assert below_a_file.parent.read_text() == "in the way"


def test_target_that_is_a_folder_is_an_output_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        write_bytes(tmp_path / "x", b"")
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_name_too_long_for_the_disk_is_an_output_error(tmp_path: Path) -> None:
    """A name of 255 bytes is legal, also while the file is written."""
    with pytest.raises(OutputError, match="File name too long"):
        write_bytes(tmp_path / ("x" * 252 + ".png"), b"")
    assert list(tmp_path.iterdir()) == []
    write_bytes(tmp_path / ("x" * 251 + ".png"), b"y")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"y"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with atomic_write(path) as first:
        first.write_text("first")
        with atomic_write(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    """Whatever the library that wrote it gave it."""
    (tmp_path / "plain").write_text("x")
    with atomic_write(tmp_path / "x") as partial:
        partial.write_text("x")
        partial.chmod(0o600)
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode
    write_tensor_file(tmp_path / "y", {"a": torch.zeros(1)}, {}, kind="test")
    assert (tmp_path / "y").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_durable_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_durable: bool
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _number: synced.append((tmp_path / "x").exists()))
    write_bytes(tmp_path / "x", b"y", is_durable=is_durable)
    assert synced == ([False] if is_durable else [])


def test_a_full_disk_is_named_when_a_state_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OutputError, match=r"cannot write .*state\.pt: .*is the disk full\?"):
        write_state(tmp_path / "state.pt", {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_tensors_is_written_through_no_file_but_the_partial_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a library writes to files of its own would stay after a kill."""
    seen: list[str] = []

    def note(folder: Path) -> None:
        seen.extend(path.name for path in folder.iterdir())

    partial = tmp_path / ".0a1b2c3d.partial"
    partial.touch()
    monkeypatch.setattr(atomic, "_partial_in", lambda _folder: partial)
    monkeypatch.setattr(atomic, "_make_durable", lambda path: note(path.parent))
    inode = partial.stat().st_ino
    write_tensor_file(tmp_path / "x.safetensors", {"x": torch.ones(3)}, {}, kind="test")
    assert seen == [partial.name]
    assert (tmp_path / "x.safetensors").stat().st_ino == inode


def test_what_a_killed_run_left_does_not_make_a_folder_used(tmp_path: Path) -> None:
    (tmp_path / "method/seed-0").mkdir(parents=True)
    (tmp_path / "method/seed-0/.4e5f6a7b.partial").write_text("half")
    (tmp_path / ".0a1b2c3d.partial").write_text("half")
    prepare_output_folder(tmp_path, overwrite=False)
    assert not (tmp_path / ".0a1b2c3d.partial").exists()
    (tmp_path / "notes.partial").write_text("the user's")
    with pytest.raises(OutputError, match="already holds something"):
        prepare_output_folder(tmp_path, overwrite=False)
    prepare_output_folder(tmp_path, overwrite=True)
    assert (tmp_path / "notes.partial").read_text() == "the user's"


@pytest.mark.parametrize("parse", [parse_json, parse_toml])
def test_documents_nested_too_deeply_are_a_value_error(parse: Callable[[str], object]) -> None:
    text = "[" * 100_000 if parse is parse_json else "a = " + "[" * 5000 + "]" * 5000
    with pytest.raises(ValueError, match="nested too deeply"):
        parse(text)


def test_text_is_utf_8_with_unix_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "x.txt", "Größe\n")
    assert (tmp_path / "x.txt").read_bytes() == b"Gr\xc3\xb6\xc3\x9fe\n"


# Output folders


@pytest.mark.parametrize("overwrite", [False, True])
def test_output_folder_is_made_with_its_parents(tmp_path: Path, overwrite: bool) -> None:
    prepare_output_folder(tmp_path / "a" / "b", overwrite=overwrite)
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    prepare_output_folder(tmp_path, overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mine.txt", ".hidden", "sub/deep.txt"])
def test_used_folder_is_refused_and_nothing_is_deleted(tmp_path: Path, name: str) -> None:
    """With `overwrite` it is taken, and what lies in it stays too."""
    write_text(tmp_path / "out" / name, "mine")
    with pytest.raises(OutputError, match=r"out already holds something; .*--overwrite"):
        prepare_output_folder(tmp_path / "out", overwrite=False)
    prepare_output_folder(tmp_path / "out", overwrite=True)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files == [tmp_path / "out" / name]
    assert files[0].read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_that_cannot_be_made_is_an_output_error(below_a_file: Path, overwrite: bool) -> None:
    for folder in (below_a_file, below_a_file.parent):
        with pytest.raises(OutputError, match=rf"cannot write to {folder}: "):
            prepare_output_folder(folder, overwrite=overwrite)
    assert below_a_file.parent.read_text() == "in the way"


# Fingerprints


def test_hash_is_sha_256_of_the_bytes(tmp_path: Path) -> None:
    """The value of "abc" is that of FIPS 180-2, appendix B.1."""
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_file(path) == expected
    large = bytes(range(256)) * 5000
    path.write_bytes(large)
    assert hash_file(path) == hashlib.sha256(large).hexdigest()


def test_fingerprint_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    paths = write_tree(tmp_path / "one", a="1", b="2")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    moved = [tmp_path / "two" / "deep" / path.name for path in paths]
    assert fingerprint(paths, root=tmp_path / "one") == fingerprint(moved, root=tmp_path / "two")


def test_fingerprint_depends_on_the_place_below_the_root(tmp_path: Path) -> None:
    paths = write_tree(tmp_path, a="1")
    assert fingerprint(paths, root=tmp_path) != fingerprint(paths, root=tmp_path / "deep")


def test_fingerprint_changes_with_a_byte_a_name_a_file_or_the_order(tmp_path: Path) -> None:
    trees = {
        "original": {"a": "1", "b": "2"},
        "byte": {"a": "1", "b": "3"},
        "name": {"a": "1", "c": "2"},
        "fewer": {"a": "1"},
        "more": {"a": "1", "b": "2", "c": ""},
        "swapped": {"a": "2", "b": "1"},
        "order": {"b": "2", "a": "1"},
        "empty": {},
    }
    marks = {
        fingerprint(write_tree(tmp_path / name, **files), root=tmp_path / name)
        for name, files in trees.items()
    }
    assert len(marks) == len(trees)


def test_fingerprint_does_not_change_with_the_time_of_a_file(tmp_path: Path) -> None:
    paths = write_tree(tmp_path, a="1")
    before = fingerprint(paths, root=tmp_path)
    os.utime(paths[0], (0, 0))
    assert fingerprint(paths, root=tmp_path) == before
