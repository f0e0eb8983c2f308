"""Models, data, images and results in a bucket of a real S3 server, which runs in this process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TRAIN_OPTIONS, Outcome, Trained, draw_hole, draw_part, run_cli

from anomaly_cli.cli.addresses import with_local_output
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.errors import ConfigError, DataError, OutputError, StorageError
from anomaly_cli.files.address import Address, parse_place
from anomaly_cli.files.images import find_images, write_png
from anomaly_cli.progress import SILENT

boto3 = pytest.importorskip("boto3", reason="the tests of buckets need pip install '.[test]'")
pytest.importorskip("s3fs", reason="pip install 'anomaly-cli[cloud]'")
moto_server = pytest.importorskip("moto.server", reason="pip install 'moto[server]'")

from anomaly_cli.files import fetch, remote, remote_output  # noqa: E402 - need the extra
from anomaly_cli.files.remote_images import find_remote_images  # noqa: E402

BATCH = ("--batch-size", 2)
NAMES = [f"{place:03}.png" for place in range(7)]
DAMAGED = "004.png"


class Bucket:
    """A bucket of the server, with the objects in it by key."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.address = f"s3://{name}"
        self._name = name
        client.create_bucket(Bucket=name)

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=self._name, Key=key, Body=content)

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Write the files of a folder, and return its address."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self.address}/{prefix}"

    def get(self, key: str) -> bytes:
        """Read an object."""
        content: bytes = self.client.get_object(Bucket=self._name, Key=key)["Body"].read()
        return content

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=self._name, Key=key)

    def keys(self, prefix: str) -> dict[str, Any]:
        """When each object below a folder was last written, by name."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self._name, Prefix=f"{prefix}/"
        )
        found = [item for page in pages for item in page.get("Contents", [])]
        return {item["Key"].removeprefix(f"{prefix}/"): item["LastModified"] for item in found}

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Read all objects below a folder, by name."""
        return {name: self.get(f"{prefix}/{name}") for name in self.keys(prefix)}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Bucket]:
    """Make an empty bucket, and let the environment say where it is."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    remote._open.cache_clear()
    name = f"b{abs(hash(request.node.nodeid)):x}"
    yield Bucket(boto3.client("s3", endpoint_url=endpoint), name)
    remote._open.cache_clear()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Seven images: four batches of two, the last of which is not full. One cannot be read."""
    for place, name in enumerate(NAMES):
        write_png(tmp_path / "in" / name, draw_hole(place)[0] if place % 2 else draw_part(place))
    content = (tmp_path / "in" / DAMAGED).read_bytes()
    (tmp_path / "in" / DAMAGED).write_bytes(content[: len(content) // 2])
    return tmp_path / "in"


def localize(trained: Trained, images: object, output: object, *options: object) -> Outcome:
    return run_cli("localize", trained.model, images, "--output", output, *BATCH, *options)


def without_places(contents: dict[str, bytes], images: object) -> dict[str, bytes]:
    """Leave out the settings, and the folder of the images, which names the one without pixels."""
    return {
        name: content.replace(str(images).encode(), b"-")
        for name, content in contents.items()
        if name != "settings.toml"
    }


def local_run(trained: Trained, images: Path, output: Path, *options: object) -> dict[str, bytes]:
    assert localize(trained, images, output, *options).code == 3
    files = [path for path in output.rglob("*") if path.is_file()]
    contents = {path.relative_to(output).as_posix(): path.read_bytes() for path in files}
    return without_places(contents, images)


def test_results_in_a_bucket_are_those_of_a_local_run_byte_for_byte(
    trained: Trained, images: Path, tmp_path: Path, bucket: Bucket
) -> None:
    options = ("--map", "attention", "--latents", "top:2")
    expected = local_run(trained, images, tmp_path / "out", *options)
    photos = bucket.put_folder(images, "photos")
    outcome = localize(trained, photos, f"{bucket.address}/out/x", *options)
    assert outcome.code == 3
    assert f"skipped: cannot read {photos}/{DAMAGED}" in outcome.stderr
    assert f"written to {bucket.address}/out/x" in outcome.stderr
    contents = bucket.contents("out/x")
    assert without_places(contents, photos) == expected
    assert f'output = "{bucket.address}/out/x"  # flag' in contents["settings.toml"].decode()
    assert not list((tmp_path / "cache").glob("**/*.png"))


def test_shards_in_a_bucket_are_merged_there(
    trained: Trained, images: Path, tmp_path: Path, bucket: Bucket
) -> None:
    expected = local_run(trained, images, tmp_path / "out")
    photos, out = bucket.put_folder(images, "photos"), f"{bucket.address}/out"
    assert localize(trained, photos, out, "--shard", "1/2", "--resume").code == 0
    refused = run_cli("merge", out)
    assert (refused.code, f"{out} lacks 1 of 2 shards: 2" in refused.stderr) == (3, True)
    assert localize(trained, photos, out, "--shard", "1/2").code == 5
    assert localize(trained, photos, out, "--shard", "1/3", "--resume").code == 5
    assert localize(trained, photos, out, "--shard", "2/2", "--resume").code == 3
    merged = run_cli("merge", out, "--json")
    assert merged.code == 3, merged.stderr
    assert json.loads(merged.stdout)["path"] == f"{out}/manifest.jsonl"
    assert without_places(bucket.contents("out"), photos) == expected
    again = localize(trained, photos, out, "--shard", "2/3", "--overwrite")
    assert again.code == 0, again.stderr
    manifests = [name for name in bucket.keys("out") if name.startswith("manifest")]
    assert manifests == ["manifest.2-of-3.jsonl"]


class KilledError(BaseException):
    """End of a process in the middle of a run."""


def test_a_killed_run_goes_on_in_a_fresh_folder(
    trained: Trained, images: Path, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest names images whose pictures are in the bucket; these are not read again."""
    expected = local_run(trained, images, tmp_path / "out")
    photos, out = bucket.put_folder(images, "photos"), f"{bucket.address}/out"

    def kill(path: Path, address: Address) -> None:
        if address.name == "005.tiff":
            raise KilledError
        remote.write_from(path, address)

    monkeypatch.setattr(remote_output, "write_from", kill)
    with pytest.raises(KilledError):
        localize(trained, photos, out, "--shard", "1/1", "--resume")
    monkeypatch.setattr(remote_output, "write_from", remote.write_from)
    name = "out/manifest.1-of-1.jsonl"
    done = [json.loads(line) for line in bucket.get(name).splitlines()[1:]]
    assert [record["image"] for record in done] == NAMES[:5]
    keys = bucket.keys("out")
    assert all(file in keys for record in done for file in record.get("outputs", {}).values())
    for finished in NAMES[:4]:
        bucket.put(f"photos/{finished}", b"not read again")
    assert localize(trained, photos, out, "--shard", "1/1", "--resume").code == 3
    assert run_cli("merge", out).code == 3
    assert without_places(bucket.contents("out"), photos) == expected


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


def test_a_model_is_trained_from_a_bucket_and_evaluated_in_it(
    trained: Trained, bucket: Bucket
) -> None:
    """The model has the bytes of one that was trained locally."""
    data = bucket.put_folder(trained.data, "mvtec")
    runs = f"{bucket.address}/runs"
    options = ("--category", "disc", "--epochs", 6, *TRAIN_OPTIONS, "--guidance", "none")
    outcome = run_cli("train", "--data", data, "--output", runs, *options, "--json")
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)[0]["model"] == f"{runs}/disc/model.safetensors"
    assert bucket.get("runs/disc/model.safetensors") == trained.model.read_bytes()
    assert f'data = "{data}"' in bucket.get("runs/disc/settings.toml").decode()
    written = bucket.keys("runs")
    assert "disc/training_state.pt" not in written
    again = run_cli("train", "--data", data, "--output", runs, *options)
    assert "already finished; kept" in again.stderr
    assert bucket.keys("runs") == written

    report = f"{bucket.address}/report"
    few = ("--replicates", 9, "--format", "json", "--data", data, "--output", report)
    assert run_cli("evaluate", "--runs", runs, *few).code == 0
    first = bucket.contents("report")
    assert "report.json" in first
    refused = run_cli("evaluate", "--model", f"{runs}/disc/model.safetensors", *few)
    assert (refused.code, f"{report} already holds something" in refused.stderr) == (5, True)
    bucket.delete("mvtec/disc/test/good/000.png")  # the copy goes, too
    outcome = run_cli("evaluate", "--model", f"{runs}/disc", *few, "--overwrite")
    assert outcome.code == 0, outcome.stderr
    counts = [
        json.loads(text)["categories"][0]["images"]
        for text in (first["report.json"], bucket.get("report/report.json"))
    ]
    assert counts[0] == counts[1] + 1


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


def test_models_and_images_of_explain_are_fetched(
    trained: Trained, images: Path, bucket: Bucket
) -> None:
    models, out = bucket.put_folder(trained.model.parent, "models"), f"{bucket.address}/out"
    photo = f"{bucket.put_folder(images, 'photos')}/000.png"
    outcome = run_cli("explain", f"{models}/model.safetensors", photo, "--output", out, "--rows", 1)
    assert outcome.code == 0, outcome.stderr
    assert out in outcome.stderr
    assert set(bucket.keys("out")) == {"explain.png", "explain.json", "settings.toml"}


def test_local_images_and_a_model_of_a_bucket_give_results_in_it(
    trained: Trained, images: Path, tmp_path: Path, bucket: Bucket
) -> None:
    expected = local_run(trained, images, tmp_path / "out")
    models, out = bucket.put_folder(trained.model.parent, "models"), f"{bucket.address}/out"
    assert run_cli("localize", models, images, "--output", out, *BATCH).code == 3
    assert without_places(bucket.contents("out"), images) == expected


@pytest.mark.parametrize(
    ("model", "photos", "out", "code", "message"),
    [
        ("{}/none", "{}/photos", "{}/out", 4, "cannot list {}/none: there is no such object, "),
        ("{}/photos", "{}/photos", "{}/out", 4, "{}/photos holds no model.safetensors"),
        ("MODEL", "s3://none/x", "{}/out", 3, "cannot list s3://none/x: there is no such object, "),
        ("MODEL", "{}/photos", "s3://none/x", 5, "cannot write to s3://none/x: there is no such "),
        ("MODEL", "{}/photos/*.tiff", "{}/out", 3, "matches no image"),
        ("MODEL", "{}/photos/x.csv", "{}/out", 3, "no images under {}/photos/x.csv; expected"),
        ("MODEL", "{}/photos/x.txt", "{}/out", 3, "{}/photos/x.txt names no file; expected a path"),
        ("MODEL", "{}/photos IMAGES", "{}/out", 2, "is no address, but other images are in a"),
        ("MODEL", "nfs3://b/x", "{}/out", 2, "nfs3:// is no storage that is known"),
        ("MODEL", "{}/photos", "s3://", 2, "s3:// is no address; expected s3://BUCKET/FOLDER"),
    ],
)
def test_what_is_not_there_is_one_line(
    trained: Trained, images: Path, bucket: Bucket, model: str, photos: str, out: str, code: int,
    message: str,
) -> None:  # fmt: skip
    bucket.put("photos/x.txt", b"")
    bucket.put("photos/x.csv", b"")
    bucket.put("photos/x.png", b"")
    texts = [text.replace("{}", bucket.address) for text in (model, photos, out)]
    named = texts[0].replace("MODEL", str(trained.model))
    inputs = texts[1].replace("IMAGES", str(images)).split()
    outcome = run_cli("localize", named, *inputs, "--output", texts[2])
    shown = " ".join(outcome.stderr.replace("│", " ").split())
    assert (outcome.code, message.replace("{}", bucket.address) in shown) == (code, True), shown
    assert "Traceback" not in shown


def fail_to_read(monkeypatch: pytest.MonkeyPatch, failures: dict[str, Exception]) -> None:
    """Let the storage fail for objects of these names."""
    storage = remote._open("s3")
    get_file = storage.get_file

    def get(address: str, path: str) -> None:
        if error := failures.get(address.rpartition("/")[2]):
            raise error
        get_file(address, path)

    monkeypatch.setattr(storage, "get_file", get)


def test_an_object_that_cannot_be_read_is_an_error_of_its_image(
    trained: Trained, images: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = bucket.put_folder(images, "photos")
    failures = {"000.png": FileNotFoundError(), "001.png": PermissionError("Forbidden")}
    fail_to_read(monkeypatch, failures)
    assert localize(trained, photos, f"{bucket.address}/out").code == 3
    lines = list(map(json.loads, bucket.get("out/manifest.jsonl").splitlines()))
    errors = [line["error"] for line in lines if "error" in line]
    assert errors[:2] == [
        f"cannot read {photos}/000.png: there is no such object, folder or bucket",
        f"cannot read {photos}/001.png: Forbidden; check the credentials, and what they allow",
    ]
    assert len(lines) == len(NAMES)
    assert len(errors) == 3


def test_without_credentials_or_network_a_run_ends(
    trained: Trained, images: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the images would count as unreadable, and --resume would leave them out."""
    photos, out = bucket.put_folder(images, "photos"), f"{bucket.address}/out"
    failures: dict[str, Exception] = {"006.png": TimeoutError("no answer")}
    fail_to_read(monkeypatch, failures)
    outcome = localize(trained, photos, out)
    assert outcome.code == 1, outcome.stderr
    assert f"cannot read {photos}/006.png: no answer; check the network" in outcome.stderr
    assert b"006.png" not in bucket.get("out/manifest.jsonl")
    failures.clear()
    assert localize(trained, photos, out, "--resume").code == 3
    assert bucket.get("out/manifest.jsonl").count(b"error") == 1  # the damaged image

    def refuse(*_arguments: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(remote._open("s3"), "put_file", refuse)
    outcome = localize(trained, photos, f"{bucket.address}/other")
    assert (outcome.code, "/other/settings.toml: gone" in outcome.stderr) == (5, True)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    remote._open.cache_clear()
    outcome = localize(trained, photos, out, "--overwrite")
    assert (outcome.code, "set AWS_ACCESS_KEY_ID and" in outcome.stderr) == (1, True)


@pytest.mark.parametrize("missing", ["fsspec", "s3fs"])
def test_a_missing_package_is_named_with_the_command(
    trained: Trained, images: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    # fsspec remembers the packages that it has loaded.
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    outcome = localize(trained, images, f"{bucket.address}/out")
    assert outcome.code == 2
    assert "pip install 'anomaly-cli[cloud]'" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


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
