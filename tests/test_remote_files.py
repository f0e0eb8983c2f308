"""Addresses, listings, copies and uploads of objects in a bucket."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bucket_server
import pytest
from bucket_server import Bucket, KilledError
from conftest import run_cli

from anomaly_cli.cli.addresses import with_local_output
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.errors import ConfigError, DataError, OutputError, StorageError
from anomaly_cli.files import fetch, remote, remote_output
from anomaly_cli.files.address import Address, parse_place
from anomaly_cli.files.images import find_images
from anomaly_cli.files.remote_images import find_remote_images
from anomaly_cli.progress import SILENT

bucket, endpoint = bucket_server.bucket, bucket_server.endpoint  # fixtures


def test_a_manifest_is_renewed_while_the_run_goes_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and then after a while, so that uploads take a small share of the time."""
    clock = [0.0]
    monkeypatch.setattr(remote_output.time, "monotonic", lambda: clock[0])
    address = Address(f"{bucket.address}/out")
    with remote_output.open_bucket(address) as destination:
        path = destination.folder / "manifest.jsonl"
        for now, text in ((0, "first"), (29, "second"), (31, "third")):
            clock[0] = float(now)
            path.write_text(text)
            destination.publish(is_due=False)
            assert bucket.get("out/manifest.jsonl") == (b"third" if now == 31 else b"first")


def test_images_of_a_bucket_are_listed_as_those_of_a_folder(bucket: Bucket, tmp_path: Path) -> None:
    """Same order, same names and same folders left out; the output folder is none of them."""
    names = ["b/z.png", "b/a.JPG", "b-1/x.png", "a.png", "b.png", "c/note.txt", "c/.hidden.png"]
    names += ["old/manifest.jsonl", "old/x.png", ".h/x.png", "out/x.png", "shard/x.png"]
    names += ["shard/manifest.1-of-2.jsonl"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    photos = bucket.put_folder(tmp_path / "in", "in")
    for key in ("in/", "in//x.png", "in/../../x.png", "in/./x.png", "in-2/x.png"):
        bucket.put(key, b"")  # no names of files: nothing may be written beside the output folder
    for inputs in (["{}"], ["{}/b", "{}/b.png"], ["{}/b/*"], ["{}/**/*.png"], ["{}/a.png"]):
        told: dict[str, list[str]] = {"local": [], "bucket": []}
        local = find_images(
            [text.format(tmp_path / "in") for text in inputs],
            exclude=tmp_path / "in/out",
            on_left_out=told["local"].append,
        )
        found = find_remote_images(
            [text.format(photos) for text in inputs],
            exclude=parse_place(f"{photos}/out"),
            on_left_out=told["bucket"].append,
        )
        assert [file.relative for file in found] == [file.relative for file in local]
        assert sorted(text.replace(photos, str(tmp_path / "in")) for text in told["bucket"]) == (
            sorted(told["local"])
        )


def test_a_list_in_a_bucket_names_images_without_a_listing(bucket: Bucket) -> None:
    """Relative to the list, or by address; none of them has to be there."""
    bucket.put("lists/some.txt", f"# two\nin/b.png\n{bucket.address}/other/a.png\nx.csv\n".encode())
    told: list[str] = []
    found = find_remote_images([f"{bucket.address}/lists/some.txt"], on_left_out=told.append)
    assert [file.relative.as_posix() for file in found] == ["lists/in/b.png", "other/a.png"]
    assert [str(file.path) for file in found] == [
        f"{bucket.address}/lists/in/b.png", f"{bucket.address}/other/a.png"
    ]  # fmt: skip
    assert "1 .csv" in told[0]
    for line in ("../../../etc/x.png", "gs://other/x.png"):
        bucket.put("lists/some.txt", line.encode())
        with pytest.raises(DataError, match=r"some.txt names .*, which is no address in this"):
            find_remote_images([f"{bucket.address}/lists/some.txt"])


def test_a_training_is_uploaded_while_it_goes_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that another pod can go on after a kill; the state is removed when the model is there."""
    monkeypatch.setattr(remote_output, "SECONDS", 0.05)
    config = TrainConfig(output=Address(f"{bucket.address}/runs"))
    with with_local_output(config, keeps="") as own:
        state = own.output / "disc/training_state.pt"
        state.parent.mkdir()
        state.write_bytes(b"1")
        while "disc/training_state.pt" not in bucket.keys("runs"):
            time.sleep(0.05)
        (state.parent / "model.safetensors").write_bytes(b"2")
        state.unlink()
    assert bucket.contents("runs") == {"disc/model.safetensors": b"2"}

    def fail() -> None:
        with with_local_output(config, keeps="disc") as own:
            assert (own.output / "disc/model.safetensors").read_bytes() == b"2"
            (own.output / "other.txt").write_bytes(b"3")
            raise KilledError

    with pytest.raises(KilledError):
        fail()
    assert bucket.get("runs/other.txt") == b"3"


def test_what_is_in_a_bucket_is_fetched_once(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def note(address: Address, path: Path, **options: Any) -> None:
        read.append(address.name)
        remote.read_into(address, path, **options)

    monkeypatch.setattr(fetch, "read_into", note)
    for name in ("a", "b", "sub/c"):
        bucket.put(f"data/{name}", b"old")
    address = Address(f"{bucket.address}/data")
    copy = fetch.fetch(address, SILENT)
    assert sorted(read) == ["a", "b", "c"]
    bucket.put("data/b", b"new")  # of the same size
    bucket.delete("data/a")
    (copy / "sub/c").unlink()
    assert fetch.fetch(address, SILENT) == copy
    assert sorted(read[3:]) == ["b", "c"]
    files = {path.name: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert files == {"b": b"new", "c": b"old"}
    bucket.put("data/b", b"newer")
    monkeypatch.setattr(fetch, "read_into", lambda _address, path, **_: path.write_bytes(b"cut"))
    with pytest.raises(StorageError, match="data/b changed while it was read"):
        fetch.fetch(address, SILENT)
    assert (copy / "b").read_bytes() == b"new"  # complete, and fetched again the next time
    monkeypatch.setattr(fetch, "read_into", note)
    assert (fetch.fetch(address, SILENT) / "b").read_bytes() == b"newer"


def test_an_address_is_no_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes none refuses it, and makes no folder called s3:."""
    monkeypatch.chdir(tmp_path)
    address = parse_place("s3://bucket//a/b.onnx")
    assert str(address) == "s3://bucket/a/b.onnx"
    assert str(address.parent / "c") == "s3://bucket/a/c"
    assert address.suffix == ".onnx"
    assert parse_place("s3:/a") == Path("s3:/a")
    for text in ("s3://", "gs://../x", "s3://bucket/../x"):
        with pytest.raises(ConfigError, match="is no address; expected"):
            parse_place(text)
    for use in (Path.mkdir, Path.open, os.fspath):
        with pytest.raises(ConfigError, match="expected a local path here, no address"):
            use(address)
    for arguments, name in (
        (("sample", "s3://bucket/x"), "destination"),
        (("export", "model", "--output", "s3://bucket/x"), "output"),
    ):
        outcome = run_cli(*arguments)
        message = f"s3://bucket/x: {name} takes a local path, no address"
        assert (outcome.code, message in outcome.stderr) == (2, True)
    assert "--output is needed" in run_cli("export", "s3://bucket/model").stderr
    assert not list(tmp_path.iterdir())


def test_commands_load_nothing_of_a_storage_without_an_address() -> None:
    code = (
        "import sys; from anomaly_cli.commands import localize, merge; "
        "from anomaly_cli.cli import addresses; "
        "print({'fsspec', 's3fs', 'anomaly_cli.files.remote'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_objects_that_cannot_be_removed_or_listed_are_named(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = Address(f"{bucket.address}/x")
    storage = remote._open("s3")

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError("Forbidden")

    for name in ("rm_file", "ls", "cat_file", "glob"):
        monkeypatch.setattr(storage, name, refuse)
    with pytest.raises(OutputError, match=r"cannot remove .*/x: Forbidden"):
        remote.remove(address)
    with pytest.raises(DataError, match=r"cannot list .*/x: Forbidden"):
        remote.list_folder(address)
    with pytest.raises(DataError, match=r"cannot list .*/x: Forbidden"):
        remote.match(address)
    with pytest.raises(OutputError, match=r"cannot read .*/x: Forbidden"):
        remote.read_start(address, 9)
