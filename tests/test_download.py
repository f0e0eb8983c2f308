"""`download` end to end, against a server on loopback; nothing goes further than that."""

import gzip
import hashlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest
from conftest import Outcome, run_cli
from download_server import MVTEC_FILES, FileServer, Seen, make_mvtec, make_tar, serve
from typer.main import get_command

from anomaly_cli.cli import app
from anomaly_cli.data.download import sources, transfer
from anomaly_cli.data.download.sources import SOURCES
from anomaly_cli.data.mvtec import find_categories
from anomaly_cli.errors import DataError
from anomaly_cli.evaluation.reports.published import TABLE_2
from anomaly_cli.files.numbers import size_text

ARCHIVE = make_mvtec()
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
CATEGORIES = sorted(TABLE_2)
NAME = "mvtec_anomaly_detection.tar.xz"


@pytest.fixture(autouse=True)
def _loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of other machines are not looked up, proxies not asked, and waits take no time."""
    look_up = socket.getaddrinfo

    def local(host: Any, *arguments: Any, **options: Any) -> Any:
        assert host == "127.0.0.1", f"a test wanted to reach {host}"
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transfer, "WAITS", (0.0, 0.0))


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Has a small MVTec AD archive as `mvtec.tar`."""
    with serve({"mvtec.tar": ARCHIVE}) as running:
        yield running


def download(server: FileServer, output: Path, *options: object, name: str = "mvtec") -> Outcome:
    return run_cli(
        "download", name, "--accept-licence", "--output", output, "--url", server.url("mvtec.tar"),
        *(options or ("--checksum", SHA256)),
    )  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_mvtec_comes_out_as_its_categories(server: FileServer, tmp_path: Path) -> None:
    """The data set, the place, the checksum and the next command; nothing else is left."""
    outcome = download(server, tmp_path / "data")
    assert outcome.code == 0, outcome.stderr
    assert find_categories(tmp_path / "data" / "mvtec") == CATEGORIES
    assert MVTEC_FILES.items() <= content(tmp_path / "data" / "mvtec").items()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mvtec"]
    assert "SHA-256 matches" in " ".join(outcome.stdout.split())
    assert f"{SHA256}  {NAME}\n" in outcome.stdout
    assert "CC BY-NC-SA 4.0" in outcome.stderr
    assert f"next: anomaly-cli train --data {tmp_path}/data/mvtec" in outcome.stderr


def test_json_has_place_and_hash(server: FileServer, tmp_path: Path) -> None:
    outcome = download(server, tmp_path, "--checksum", "none", "--json")
    (row,) = json.loads(outcome.stdout)["downloads"]
    assert row["path"] == str(tmp_path / "mvtec")
    assert row["files"] == [{"name": NAME, "size": len(ARCHIVE), "sha256": SHA256, "checked": ""}]


def test_progress_is_printed_in_lines_off_a_terminal(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomaly_cli.cli.progress.SECONDS", 0)
    stderr = download(server, tmp_path).stderr
    assert f"{NAME}: {size_text(len(ARCHIVE))} of {size_text(len(ARCHIVE))}\n" in stderr
    assert "unpacking mvtec: " in stderr


def test_without_accepted_licence_it_is_shown_and_nothing_fetched(
    server: FileServer, tmp_path: Path
) -> None:
    outcome = run_cli(
        "--quiet", "download", "mvtec", "--output", tmp_path / "data", "--url", server.url("x")
    )
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.count("\n") == 1
    assert "CC BY-NC-SA 4.0" in outcome.stderr
    assert "--accept-licence" in outcome.stderr
    assert not (tmp_path / "data").exists()
    assert not server.seen


def test_broken_connection_is_gone_on_from(server: FileServer, tmp_path: Path) -> None:
    """The second request asks for the missing bytes of the same version, and they fit."""
    server.cuts = [100_000]
    outcome = download(server, tmp_path)
    assert outcome.code == 0, outcome.stderr
    assert "100,000 of" in outcome.stderr
    assert [(seen.range, seen.if_range) for seen in server.seen] == [
        (None, None),
        ("bytes=100000-", '"1"'),
    ]
    assert find_categories(tmp_path / "mvtec") == CATEGORIES


def test_command_run_again_goes_on(server: FileServer, tmp_path: Path) -> None:
    """After the last try the part is kept and named, and a later command needs the rest alone."""
    server.cuts = [1000, 0, 0]
    first = download(server, tmp_path)
    assert first.code == 3
    assert f"{NAME}.part is kept" in first.stderr.splitlines()[-1]
    assert not (tmp_path / "mvtec").exists()
    assert download(server, tmp_path).code == 0
    assert server.seen[-1].range == "bytes=1000-"


@pytest.mark.parametrize("ability", ["ranges", "version", "right range"])
def test_server_that_cannot_resume_is_asked_from_the_start(
    server: FileServer, tmp_path: Path, ability: str
) -> None:
    """It has no ranges, no ETag and no date, or answers another range than was asked for."""
    server.has_ranges = ability != "ranges"
    server.etag = None if ability == "version" else '"1"'
    server.shift = 1 if ability == "right range" else 0
    server.cuts = [1000]
    outcome = download(server, tmp_path)
    assert outcome.code == 0, outcome.stderr
    assert "starting again" in outcome.stderr
    assert find_categories(tmp_path / "mvtec") == CATEGORIES


def test_weak_etag_gives_way_to_the_date(server: FileServer, tmp_path: Path) -> None:
    """A weak one says that two files mean the same, not that their bytes are (RFC 9110, 13.1.5)."""
    server.etag, server.date = 'W/"1"', "Wed, 21 Oct 2015 07:28:00 GMT"
    server.cuts = [1000]
    assert download(server, tmp_path).code == 0
    assert server.seen[-1] == Seen("/mvtec.tar", "bytes=1000-", server.date)


def test_other_version_is_not_joined(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [1000, 0, 0]
    server.files["mvtec.tar"] = b"x" * len(ARCHIVE)
    assert download(server, tmp_path).code == 3
    server.files["mvtec.tar"] = ARCHIVE
    server.etag = '"2"'
    outcome = download(server, tmp_path)
    assert outcome.code == 0, outcome.stderr
    assert "starting again" in outcome.stderr


def test_server_without_ranges_that_always_breaks_is_given_up(
    server: FileServer, tmp_path: Path
) -> None:
    server.has_ranges = False
    server.cuts = [1000] * 10
    assert download(server, tmp_path).code == 3
    assert len(server.seen) == 3  # the two waits are over, and no try got further than the first


def test_server_that_answers_another_range_than_the_whole_is_given_up(
    server: FileServer, tmp_path: Path
) -> None:
    server.is_confused, server.shift = True, 1
    outcome = download(server, tmp_path)
    assert outcome.code == 3
    assert "a range that was not asked for" in outcome.stderr
    assert len(server.seen) == 3


def test_silent_server_is_asked_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
    server.cuts, server.stall = [1000], threading.Event()
    assert download(server, tmp_path).code == 0
    assert server.seen[-1].range == "bytes=1000-"


def test_nobody_there_is_a_data_error(tmp_path: Path) -> None:
    with serve({}) as server:
        pass
    outcome = download(server, tmp_path)
    assert outcome.code == 3
    assert "Connection refused" in outcome.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_busy_server_is_asked_again_and_missing_file_is_not(
    server: FileServer, tmp_path: Path
) -> None:
    server.statuses = [503, 429]
    assert download(server, tmp_path).code == 0
    assert len(server.seen) == 3
    server.statuses = [404]
    outcome = download(server, tmp_path / "other")
    assert outcome.code == 3
    assert "HTTP 404" in outcome.stderr.splitlines()[-1]
    assert "--url" in outcome.stderr
    assert len(server.seen) == 4
    assert content(tmp_path / "other") == {}


def test_tampered_archive_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    """Not even the part, which would be gone on from."""
    server.files["mvtec.tar"] = ARCHIVE[:-1] + b"x"
    outcome = download(server, tmp_path)
    assert outcome.code == 3
    assert SHA256 in outcome.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [0, 10, 20_000, -3])
@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w:bz2"])
def test_archive_cut_off_leaves_nothing(tmp_path: Path, mode: str, length: int) -> None:
    """It came whole, but is no whole archive; even where only its own checksum is missing."""
    noise = random.Random(0).randbytes(30_000)
    whole = make_tar({"bottle/train/good/0.png": noise}, mode=mode)
    with serve({"mvtec.tar": whole[:length]}) as server:
        outcome = download(server, tmp_path, "--checksum", "none")
    assert outcome.code == 3, outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_archive_of_something_else_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    server.files["mvtec.tar"] = make_tar({"photos/cat.png": b"cat"})
    outcome = download(server, tmp_path, "--checksum", "none")
    assert outcome.code == 3
    assert "is no whole MVTec AD: it has no carpet/train/good" in outcome.stderr
    assert not list(tmp_path.iterdir())


def test_full_disk_is_noticed_before_anything_is_written(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There must be room for the archive and for its content."""
    free = int(len(ARCHIVE) * 1.5)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    outcome = download(server, tmp_path)
    assert outcome.code == 5
    assert "unpacked); make room" in outcome.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_complete_data_set_is_left_as_it_is(server: FileServer, tmp_path: Path) -> None:
    assert download(server, tmp_path).code == 0
    (tmp_path / "mvtec" / "notes.txt").write_text("mine")
    before = content(tmp_path)
    outcome = download(server, tmp_path)
    assert outcome.code == 0
    assert "is already complete" in outcome.stderr
    assert content(tmp_path) == before
    assert len(server.seen) == 1


def test_folder_with_something_else_is_refused_and_kept_with_overwrite(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "mvtec" / "bottle").mkdir(parents=True)
    (tmp_path / "mvtec" / "bottle" / "notes.txt").write_text("mine")
    (tmp_path / "mvtec" / "license.txt").write_text("old")
    refused = download(server, tmp_path)
    assert refused.code == 5
    assert "--overwrite" in refused.stderr
    assert not server.seen
    assert download(server, tmp_path, "--checksum", SHA256, "--overwrite").code == 0
    found = content(tmp_path / "mvtec")
    assert MVTEC_FILES.items() <= found.items()
    assert found["bottle/notes.txt"] == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mvtec"]


def test_kept_archive_is_used_again(server: FileServer, tmp_path: Path) -> None:
    options = ("--checksum", SHA256, "--keep-archive", "--overwrite")
    assert download(server, tmp_path, *options).code == 0
    assert (tmp_path / NAME).read_bytes() == ARCHIVE
    assert download(server, tmp_path, *options).code == 0
    assert len(server.seen) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mvtec", NAME]


def test_part_that_is_complete_is_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    """Such as after a disk that filled up while unpacking."""
    (tmp_path / f"{NAME}.part").write_bytes(ARCHIVE)
    (tmp_path / f"{NAME}.part.version").write_text('"1"')
    assert download(server, tmp_path).code == 0
    assert server.seen[-1].range == f"bytes={len(ARCHIVE)}-"
    assert [path.name for path in tmp_path.iterdir()] == ["mvtec"]


def test_part_longer_than_the_file_is_dropped(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(ARCHIVE + b"x")
    (tmp_path / f"{NAME}.part.version").write_text('"1"')
    assert download(server, tmp_path).code == 0


def test_server_need_not_send_the_length(server: FileServer, tmp_path: Path) -> None:
    server.has_length = False
    assert download(server, tmp_path).code == 0


@pytest.mark.parametrize("has_length", [True, False])
def test_a_server_that_sends_more_than_the_file_can_have_is_given_up(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_length: bool
) -> None:
    small = SOURCES["mvtec"]._replace(largest=len(ARCHIVE) - 1)
    monkeypatch.setitem(SOURCES, "mvtec", small)
    server.has_length = has_length
    outcome = download(server, tmp_path)
    assert outcome.code == 3
    assert "it sends more than" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_interrupt_keeps_the_part_and_says_so(server: FileServer, tmp_path: Path) -> None:
    """Ctrl-C while the server stalls, then the same command goes on."""
    server.cuts, server.stall = [5000], threading.Event()
    command = [
        sys.executable, "-P", "-m", "anomaly_cli", "download", "mvtec", "--accept-licence",
        "--output", str(tmp_path), "--url", server.url("mvtec.tar"), "--checksum", SHA256,
    ]  # fmt: skip
    part = tmp_path / f"{NAME}.part"
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True,
        # A shell that runs the tests in the background makes them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 30
        while not (part.is_file() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert f"{NAME}.part is kept, and the same command goes on" in errors
    assert "Traceback" not in errors
    size = part.stat().st_size
    assert 0 < size <= 5000
    assert download(server, tmp_path).code == 0
    assert server.seen[-1].range == f"bytes={size}-"


def test_mnist_is_read_by_torchvision(tmp_path: Path) -> None:
    """Four files of one mirror, unpacked where `torchvision.datasets.MNIST` looks."""
    from torchvision.datasets import MNIST

    def idx(kind: int, *shape: int) -> bytes:
        sizes = b"".join(size.to_bytes(4, "big") for size in shape)
        count = shape[0] * (784 if len(shape) > 1 else 1)
        return gzip.compress(bytes([0, 0, 8, kind]) + sizes + bytes(i % 10 for i in range(count)))

    files = {
        f"mirror/{part}-{what}-ubyte.gz": idx(dimensions, count, *rest)
        for part, count in (("train", 5), ("t10k", 3))
        for what, dimensions, rest in (("images-idx3", 3, (28, 28)), ("labels-idx1", 1, ()))
    }
    with serve(files) as server:
        outcome = run_cli(
            "download", "mnist", "--accept-licence", "--output", tmp_path,
            "--url", server.url("mirror/"), "--checksum", "none",
        )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert [len(MNIST(tmp_path, train=train)) for train in (True, False)] == [5, 3]
    assert MNIST(tmp_path, train=True)[4][1] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]


def test_mirror_is_tried_where_the_first_has_no_file(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOURCES["mvtec"]
    file = source.files[0]._replace(
        checksum=hashlib.md5(ARCHIVE, usedforsecurity=False).hexdigest(),
        urls=(server.url("gone.tar"), server.url("mvtec.tar")),
    )
    monkeypatch.setitem(SOURCES, "mvtec", source._replace(files=(file,)))
    outcome = run_cli("download", "mvtec", "--accept-licence", "--output", tmp_path)
    assert outcome.code == 0, outcome.stderr
    assert f"trying {server.url('mvtec.tar')}" in outcome.stderr
    assert f"{SHA256}  {NAME}\n" in outcome.stdout


def test_ucsd_keeps_the_official_tree(server: FileServer, tmp_path: Path) -> None:
    tree = {
        f"UCSD_Anomaly_Dataset.v1p2/UCSDped{i}/Train/Train001/001.tif": b"frame" for i in (1, 2)
    }
    server.files["mvtec.tar"] = make_tar(tree, mode="w:gz")
    assert download(server, tmp_path, "--checksum", "none", name="ucsd").code == 0
    assert content(tmp_path / "ucsd") == tree


@pytest.mark.parametrize("name", ["dsprites", "weights"])
def test_single_file_comes_as_it_is_and_another_is_not_replaced(
    server: FileServer, tmp_path: Path, name: str
) -> None:
    path = tmp_path / SOURCES[name].target
    assert download(server, tmp_path, name=name).code == 0
    assert content(tmp_path) == {SOURCES[name].target: ARCHIVE}
    assert "is already complete" in download(server, tmp_path, name=name).stderr
    path.write_bytes(b"other")
    assert download(server, tmp_path, name=name).code == 5
    assert path.read_bytes() == b"other"
    (tmp_path / SOURCES[name].files[0].name).write_bytes(ARCHIVE)
    assert download(server, tmp_path, "--checksum", SHA256, "--overwrite", name=name).code == 0
    assert path.read_bytes() == ARCHIVE
    assert (tmp_path / path.name).is_file()  # the user's own, and not moved


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["mvtek"], "unknown data set 'mvtek'"),
        (["mnist", "ucsd", "--url", "http://127.0.0.1/x"], "exactly one data set"),
        (["mvtec", "--url", "file:///etc/passwd"], "http://"),
        (["mvtec", "--url", "http://"], "http://"),
        (["mvtec", "--checksum", SHA256], "--url"),
        (["mvtec", "--url", "http://127.0.0.1/x", "--checksum", "1234"], "hexadecimal"),
        (["mnist", "--url", "http://127.0.0.1/x", "--checksum", SHA256], "several files"),
    ],
)
def test_nonsense_is_a_usage_error(tmp_path: Path, options: list[str], reason: str) -> None:
    outcome = run_cli("download", *options, "--accept-licence", "--output", tmp_path)
    assert outcome.code == 2
    assert reason in outcome.stderr
    assert not list(tmp_path.iterdir())


def test_output_that_cannot_be_written_is_an_output_error(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file")
    outcome = download(server, tmp_path / "data")
    assert outcome.code == 5
    assert outcome.stderr.splitlines()[-1].startswith("error: ")
    (tmp_path / f"folder/{NAME}.part").mkdir(parents=True)
    outcome = download(server, tmp_path / "folder")
    assert outcome.code == 5
    assert f"cannot write {tmp_path}/folder/{NAME}.part: " in outcome.stderr


def test_addresses_and_checksums_are_those_of_torchvision() -> None:
    """Constants, so that they cannot part from each other; but the same ones."""
    from torchvision.datasets import MNIST
    from torchvision.models import ResNet18_Weights

    assert sources.MNIST_MIRRORS[0] in MNIST.mirrors  # the other one of theirs has no https
    files = SOURCES["mnist"].files
    assert [(file.name, file.checksum) for file in files] == MNIST.resources
    (weights,) = SOURCES["weights"].files
    assert weights.urls == (ResNet18_Weights.IMAGENET1K_V1.url,)
    assert weights.name == f"resnet18-{weights.checksum[:8]}.pth"  # as torch.hub checks it


def test_addresses_are_https_or_have_a_strong_checksum() -> None:
    for source in SOURCES.values():
        for file in source.files:
            is_strong = len(file.checksum) == 64
            assert is_strong or all(url.startswith("https://") for url in file.urls), file.name


def test_a_redirect_from_https_to_http_is_refused() -> None:
    redirects, request = transfer._SafeRedirects(), Request("https://example.org/file")
    with pytest.raises(DataError, match=r"redirected to http://example.org/x, which is not https"):
        redirects.redirect_request(request, None, 302, "", {}, "http://example.org/x")
    kept = redirects.redirect_request(request, None, 302, "", {}, "https://example.org/x")
    assert kept is not None
    assert kept.full_url == "https://example.org/x"


def test_next_commands_are_understood() -> None:
    """Each names a command and options that exist."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for source in SOURCES.values():
        _, name, *arguments = source.next_command.format(output="data").split()
        assert commands[name].make_context(name, arguments).params


def test_next_commands_name_the_folder_that_the_data_set_reads() -> None:
    """The archive of UCSD has a folder of its own between `ucsd` and the cameras."""
    mnist, ucsd = (SOURCES[name] for name in ("mnist", "ucsd"))
    assert "--dataset mnist --data {output} " in mnist.next_command
    assert f"{{output}}/{mnist.target}/{mnist.expected[0]}".startswith("{output}/MNIST/raw/")
    root = ucsd.next_command.split("--data {output}/")[1].split()[0]
    assert f"{ucsd.target}/{ucsd.expected[0]}".startswith(f"{root}/UCSDped1/")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (5_264_982_680, "5.3 GB")],
)
def test_sizes_are_read_in_powers_of_1000(size: int, text: str) -> None:
    assert size_text(size) == text
