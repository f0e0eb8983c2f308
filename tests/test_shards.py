"""Shards of `localize`: the same bytes as one run, and no merge of what does not fit together."""

import shutil
from pathlib import Path

import pytest
from conftest import Outcome, Trained, draw_hole, draw_part, run_cli

from anomaly_cli.commands.shards import cut_shard
from anomaly_cli.config.values import Shard, parse_shard
from anomaly_cli.errors import ConfigError, OutputError
from anomaly_cli.files.images import write_png
from anomaly_cli.files.lock import lock_folder, lock_path

BATCH = ("--batch-size", 2)
NAMES = [f"{place:03}.png" for place in range(7)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Seven images: four batches of two, the last of which is not full. One cannot be read."""
    for place, name in enumerate(NAMES):
        write_png(tmp_path / "in" / name, draw_hole(place)[0] if place % 2 else draw_part(place))
    content = (tmp_path / "in/004.png").read_bytes()
    (tmp_path / "in/004.png").write_bytes(content[: len(content) // 2])
    return tmp_path / "in"


def localize(trained: Trained, images: Path, output: Path, *options: object) -> Outcome:
    return run_cli("localize", trained.model, images, "--output", output, *BATCH, *options)


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of all files, without the path of the folder, which settings name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().replace(bytes(folder), b"-")
        for path in folder.rglob("*")
        if path.is_file()
    }


def run_shards(
    trained: Trained, images: Path, output: Path, total: int, *options: object
) -> list[Outcome]:
    numbers = range(1, total + 1)
    return [localize(trained, images, output, "--shard", f"{k}/{total}", *options) for k in numbers]


@pytest.mark.parametrize("total", [1, 3, 6])
def test_merged_shards_are_a_run_without_shards_byte_for_byte(
    trained: Trained, images: Path, tmp_path: Path, total: int
) -> None:
    """Also with more shards than batches, and whichever shard has the image that is damaged."""
    assert localize(trained, images, tmp_path / "whole").code == 3
    outcomes = run_shards(trained, images, tmp_path / "parts", total)
    assert sorted(outcome.code for outcome in outcomes) == [0] * (total - 1) + [3]
    merged = run_cli("merge", tmp_path / "parts")
    assert merged.code == 3
    assert "1 of 7 images could not be read" in merged.stderr
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_shard_is_whole_batches_and_all_shards_are_all_images() -> None:
    """Of 7 images in batches of 2, three shards take 1, 1 and 2 batches."""
    parts = [cut_shard(Shard(number, 3), NAMES, 2, {}) for number in (1, 2, 3)]
    assert [(part.start, part.stop) for part in parts] == [(0, 2), (2, 4), (4, 7)]


@pytest.mark.parametrize("text", ["0/16", "17/16", "3", "3/", "/3", "a/b", "-1/2", "1/0", "1.0/2"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard must be K/N with K from 1 to N, such as 3/16"):
        parse_shard(text)


def test_a_stopped_shard_goes_on_to_the_same_bytes(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_shards(trained, images, out, 2)
    expected = contents(out)
    own = out / "manifest.2-of-2.jsonl"
    content = own.read_bytes()
    lines = content.splitlines(keepends=True)
    for cut in (0, len(lines[0]), len(lines[0] + lines[1]) + 20, len(content)):
        own.write_bytes(content[:cut])
        outcome = localize(trained, images, out, "--shard", "2/2", "--resume")
        assert outcome.code == 3, outcome.stderr
        assert contents(out) == expected
    assert run_cli("merge", out).code == 3


def test_a_shard_goes_on_with_a_run_without_shards(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    """So a team that is restarted after its merge has nothing left to do."""
    out = tmp_path / "out"
    localize(trained, images, out)
    expected = contents(out)
    (out / "maps/001.tiff").unlink()  # would be written again if its image were done again
    run_shards(trained, images, out, 2, "--resume")
    assert run_cli("merge", out).code == 3
    assert contents(out) == {k: v for k, v in expected.items() if k != "maps/001.tiff"}


def test_shards_share_a_folder_with_each_other_alone(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert localize(trained, images, out, "--shard", "1/2").code == 0
    refusals = {
        ("--shard", "1/2"): "already holds something",
        ("--shard", "2/3"): "manifest.1-of-2.jsonl is a shard of another run",
        ("--shard", "2/2", "--map", "appearance"): "is a shard of another run",
        ("--shard", "1/2", "--resume", "--map", "appearance"): "is of other images, or of another",
        (): "already holds something",
    }
    for options, message in refusals.items():
        outcome = localize(trained, images, out, *options)
        assert (outcome.code, message in outcome.stderr) == (5, True), outcome.stderr
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine.txt").touch()
    outcome = localize(trained, images, tmp_path / "other", "--shard", "1/2")
    assert "already holds something" in outcome.stderr
    with lock_folder(out):
        outcome = localize(trained, images, out, "--shard", "2/2")
        assert "another run is writing to" in outcome.stderr
    with lock_folder(out, is_shared=True), lock_path(out / "manifest.1-of-2.jsonl"):
        outcome = localize(trained, images, out, "--shard", "1/2", "--resume")
        assert "another run is writing to" in outcome.stderr
        assert "another run is writing to" in run_cli("merge", out).stderr
        assert localize(trained, images, out, "--shard", "2/2").code == 3


def test_overwrite_begins_a_run_of_other_shards(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    localize(trained, images, out)
    expected = contents(out)
    assert localize(trained, images, out, "--shard", "1/2", "--overwrite").code == 0
    assert not (out / "manifest.jsonl").exists()  # it would describe files of two runs
    outcomes = run_shards(trained, images, out, 3, "--overwrite")
    assert [outcome.code for outcome in outcomes] == [0, 0, 3]
    assert run_cli("merge", out).code == 3
    assert contents(out) == expected


def test_a_merge_names_what_does_not_belong_together(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    run_shards(trained, images, out, 3)
    localize(trained, images, other, "--shard", "2/3", "--threshold", 0.5)
    expected = contents(out)
    second = out / "manifest.2-of-3.jsonl"
    whole = second.read_bytes()

    def refused(message: str) -> None:
        before = contents(out)
        outcome = run_cli("merge", out)
        assert (outcome.code, message in outcome.stderr) == (3, True), outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert contents(out) == before

    second.write_bytes(whole[: whole.index(b"\n") + 1])
    refused("has 0 of 2 images; finish it by --shard 2/3 --resume")
    shutil.copy(other / second.name, second)
    refused("are of different runs: threshold, threshold_rule")
    shutil.copy(out / "manifest.1-of-3.jsonl", second)
    refused("manifest.2-of-3.jsonl is not the manifest of shard 2/3")
    second.write_bytes(b"[" * 10)
    refused("manifest.2-of-3.jsonl is not the manifest of shard 2/3")
    second.unlink()
    refused("lacks 1 of 3 shards: 2")
    second.write_bytes(whole)
    shutil.copy(second, out / "manifest.02-of-3.jsonl")
    refused("are both of shard 2/3")
    (out / "manifest.02-of-3.jsonl").unlink()
    assert contents(out) == expected
    assert run_cli("merge", out).code == 3
    refused("holds no shard of localize")


def test_json_of_a_merge_counts_the_images(trained: Trained, images: Path, tmp_path: Path) -> None:
    run_shards(trained, images, tmp_path / "out", 2)
    outcome = run_cli("merge", tmp_path / "out", "--json")
    assert '"images": 7' in outcome.stdout
    assert '"failed": 1' in outcome.stdout


def test_shards_that_are_not_merged_are_no_photographs(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    localize(trained, images, images / "results", "--shard", "1/2")
    outcome = localize(trained, images, tmp_path / "out")
    assert "results holds results of an earlier run" in outcome.stderr


def test_a_lock_of_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write to .*gone"), lock_path(tmp_path / "gone"):
        pass


def test_a_merge_of_no_folder_or_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.1-of-1.jsonl").write_text("[\n")
    assert "is damaged" in run_cli("merge", tmp_path).stderr
    outcome = run_cli("merge", tmp_path / "none")
    assert (outcome.code, "none is no folder" in outcome.stderr) == (3, True)
