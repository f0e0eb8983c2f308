"""`merge`: join the manifests of the shards of `localize`."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from anomaly_cli.commands.shards import list_manifests, range_of, run_of
from anomaly_cli.config.values import Shard
from anomaly_cli.errors import DataError
from anomaly_cli.files.atomic import atomic_write, remove_file, remove_partial_files
from anomaly_cli.files.destination import Destination
from anomaly_cli.files.images import MANIFEST_FILE, SHARD_MANIFESTS
from anomaly_cli.files.lock import lock_folder
from anomaly_cli.files.manifest import Record, manifest_line, read_head, read_manifest
from anomaly_cli.files.open_destination import open_destination

_NAMED = 5  # shards that an error lists


class MergedManifest(NamedTuple):
    """Numbers of the images of a manifest that was merged."""

    path: Path
    shards: int
    images: int
    anomalous: int
    failed: int  # images that could not be read


def merge_shards(output: Path) -> MergedManifest:
    """Merge the manifests of all shards into that of a run without shards, and remove them.

    Raises:
        DataError: a shard is missing, not finished, or there twice, or shards are of different
            runs.
        OutputError: a manifest is damaged, cannot be written, or a shard is still running.
    """
    with open_destination(output) as destination:
        merged = merge_at(destination)
        return merged._replace(path=destination.final(merged.path))


def merge_at(destination: Destination) -> MergedManifest:
    """Merge as `merge_shards` does; the merged manifest stays in the folder of `destination`.

    Raises:
        DataError: see `merge_shards`.
        OutputError: see `merge_shards`.
    """
    if not destination.folder.is_dir():
        raise DataError(f"{destination.folder} is no folder")
    destination.pull(lambda _name: True)
    merged = _merge_in(destination.folder)
    destination.publish()
    return merged


def _merge_in(folder: Path) -> MergedManifest:
    with lock_folder(folder):
        shards, merged = _check_shards(folder), folder / MANIFEST_FILE
        images = anomalous = failed = 0
        with atomic_write(merged) as partial, partial.open("wb") as stream:
            for shard in shards:
                records = _read_finished(shard)
                stream.writelines(manifest_line(record).encode() for record in records)
                images += len(records)
                anomalous += sum(bool(record.get("is_anomalous")) for record in records)
                failed += sum("error" in record for record in records)
        for shard in shards:
            remove_file(shard.path)
        remove_partial_files(folder)
    return MergedManifest(merged, len(shards), images, anomalous, failed)


class _ShardFile(NamedTuple):
    """Manifest of a shard, found in a folder."""

    path: Path
    shard: Shard
    head: Record


def _check_shards(folder: Path) -> list[_ShardFile]:
    """Find the manifests of all shards of one run, in their order.

    Raises:
        DataError: there are none, one is missing or there twice, or their runs differ.
    """
    found = [_open_shard(path, shard) for path, shard in list_manifests(folder)]
    if not found:
        raise DataError(f"{folder} holds no shard of localize ({SHARD_MANIFESTS})")
    first = found[0]
    for one, other in pairwise(found):
        if differing := _differing(one.head, other.head):
            raise DataError(
                f"{one.path} and {other.path.name} are of different runs: {differing} differ"
            )
        if one.shard == other.shard:
            raise DataError(f"{one.path} and {other.path.name} are both of shard {one.shard}")
    missing = sorted(set(range(1, first.shard.total + 1)) - {each.shard.number for each in found})
    if missing:
        named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if missing[_NAMED:] else "")
        raise DataError(f"{folder} lacks {len(missing)} of {first.shard.total} shards: {named}")
    return found


def _open_shard(path: Path, shard: Shard) -> _ShardFile:
    head = read_head(path)
    numbers = [head.get("images"), head.get("batch_size")]
    is_whole = all(isinstance(number, int) and number > 0 for number in numbers)
    if head.get("shard") != str(shard) or not is_whole:
        raise DataError(f"{path} is not the manifest of shard {shard}")
    return _ShardFile(path, shard, head)


def _differing(first: Record, second: Record) -> str:
    one, two = run_of(first), run_of(second)
    keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    return ", ".join("number of shards" if key == "shard" else key for key in keys)


def _read_finished(found: _ShardFile) -> list[Record]:
    """Read the lines of a shard that has done all its images.

    Raises:
        DataError: it has not.
    """
    path, shard, head = found
    records = read_manifest(path, heads=1)[1:]
    start, stop = range_of(shard, head["images"], head["batch_size"])
    if len(records) != stop - start:
        raise DataError(
            f"{path} has {len(records)} of {stop - start} images; finish it by --shard {shard} "
            f"--resume"
        )
    return records
