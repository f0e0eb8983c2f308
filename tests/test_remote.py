"""Commands that read from and write to a bucket: same bytes, resumes, and errors."""

import json
import sys
from pathlib import Path

import bucket_server
import pytest
from bucket_server import Bucket, KilledError
from conftest import TRAIN_OPTIONS, Outcome, Trained, draw_hole, draw_part, run_cli

from anomaly_cli.files import remote, remote_output
from anomaly_cli.files.address import Address
from anomaly_cli.files.images import write_png

bucket, endpoint = bucket_server.bucket, bucket_server.endpoint  # fixtures
BATCH = ("--batch-size", 2)
NAMES = [f"{place:03}.png" for place in range(7)]
DAMAGED = "004.png"


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
