"""Shards of one run of `localize`: which images each has, its manifest, and its folder.

The manifest of a shard begins with a line that describes the run: number and names of all images,
batch size, model and map. Shards belong together if these lines differ only in the shard.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from anomaly_cli.config.values import Shard
from anomaly_cli.errors import OutputError
from anomaly_cli.files.atomic import (
    folder_in_use,
    is_used,
    remove_file,
)
from anomaly_cli.files.images import MANIFEST_FILE, SHARD_MANIFESTS
from anomaly_cli.files.lock import lock_folder, lock_path
from anomaly_cli.files.manifest import Record, read_head, read_manifest

_NAME = re.compile(r"manifest\.(\d+)-of-(\d+)\.jsonl")


class Part(NamedTuple):
    """The part of a run that one process does: a shard, or all of it."""

    manifest: str  # name of its manifest
    head: list[Record]  # first lines of the manifest; of a run without shards there are none
    start: int  # place of its first image among all images
    stop: int

    def read_done(self, folder: Path) -> list[Record]:
        """Read the lines of the images that a stopped run has done.

        Without a manifest of its own, a shard takes its lines from the manifest of the whole run.

        Raises:
            OutputError: the manifest is damaged, or of another run.
        """
        path, heads = folder / self.manifest, len(self.head)
        if not path.is_file() and self.head:
            return read_manifest(folder / MANIFEST_FILE)[self.start : self.stop]
        lines = read_manifest(path, heads=heads)
        if lines and lines[:heads] != self.head:
            raise other_run(path)
        return lines[heads:]


def other_run(path: Path) -> OutputError:
    """Make the error for a manifest that this run cannot go on with."""
    return OutputError(
        f"{path} is of other images, or of another model or map; --overwrite starts anew"
    )


def whole_run(images: int) -> Part:
    """Describe a run without shards."""
    return Part(MANIFEST_FILE, [], 0, images)


def cut_shard(shard: Shard, names: Sequence[str], batch_size: int, common: Record) -> Part:
    """Find the images of a shard: whole batches of the run without shards.

    Rounding depends on the other images of a batch, so each image gets the same bytes.

    Args:
        shard: number of the shard and of all.
        names: of all images of the run, in their order.
        batch_size: images of a batch.
        common: values that are equal on all lines of the manifest.
    """
    start, stop = range_of(shard, len(names), batch_size)
    text = "\0".join(names).encode("utf-8", "surrogateescape")
    head = {
        "shard": str(shard),
        "images": len(names),
        "images_sha256": hashlib.sha256(text).hexdigest(),
        "batch_size": batch_size,
        **common,
    }
    return Part(manifest_name(shard), [head], start, stop)


def range_of(shard: Shard, images: int, batch_size: int) -> tuple[int, int]:
    """Find the places of the first image of a shard, and of the first after it."""
    batches = -(-images // batch_size)
    ends = [
        place * batches // shard.total * batch_size for place in (shard.number - 1, shard.number)
    ]
    return ends[0], min(ends[1], images)


def manifest_name(shard: Shard) -> str:
    """Name the manifest of a shard."""
    return SHARD_MANIFESTS.replace("*", str(shard.number), 1).replace("*", str(shard.total))


@contextmanager
def open_shard_folder(folder: Path, part: Part, *, overwrite: bool, resume: bool) -> Iterator[None]:
    """Share `folder` with the other shards of one run, and keep all other runs from writing to it.

    With `overwrite`, the manifests of other runs are removed; that of all shards is written anew
    when they are merged.

    Raises:
        OutputError: the folder holds something else, cannot be made or written to, or another run
            is writing to it.
    """
    own = folder / part.manifest
    with lock_folder(folder, is_shared=True):
        holds_more = is_used(folder)  # before the manifests of others, which come first, are listed
        others = [path for path, _shard in list_manifests(folder) if path != own]
        foreign = [path for path in others if not _is_same_run(path, part.head[0])]
        is_new = not own.is_file() and not (folder / MANIFEST_FILE).is_file()
        if own.is_file():
            with lock_path(own):
                pass  # the same shard is not running
        if overwrite:
            for path in foreign:
                with lock_path(path):
                    remove_file(path)
            remove_file(folder / MANIFEST_FILE)
        elif foreign:
            raise OutputError(
                f"{foreign[0]} is a shard of another run; choose another folder or add --overwrite"
            )
        elif holds_more and not resume and not (others and is_new):
            raise folder_in_use(folder)
        yield


def list_manifests(folder: Path) -> list[tuple[Path, Shard]]:
    """List the manifests of shards in a folder, by number of shards and number of the shard."""
    found = [(_NAME.fullmatch(path.name), path) for path in folder.glob(SHARD_MANIFESTS)]
    named = [(path, Shard(int(match[1]), int(match[2]))) for match, path in found if match]
    return sorted(named, key=lambda each: (each[1].total, each[1].number, each[0]))


def _is_same_run(path: Path, head: Record) -> bool:
    return run_of(read_head(path)) == run_of(head)


def run_of(head: Record) -> Record:
    """Leave the number of the shard out of a first line."""
    return {**head, "shard": str(head.get("shard")).partition("/")[2]}
