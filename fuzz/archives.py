"""Archives of downloads: tar and zip of every compression, and single gzip files."""

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from anomaly_cli.data.download.archives import decompress, unpack
from fuzz.arrays import zipped
from fuzz.mutation import mutate_bytes
from fuzz.target import BrokenRuleError, DamagedFile, Target

_MEMBERS = {
    "bottle/train/good/000.png": b"normal" * 50,
    "bottle/license.txt": b"free" * 200,
    "bottle/" + "long" * 40 + ".png": b"long",
    "bottle/größe.png": b"name",
}
_PACKERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda content: content,
    lambda content: gzip.compress(content, 1, mtime=0),
    bz2.compress,
    lambda content: lzma.compress(content, preset=0),
)


def _tar(random: Random) -> bytes:
    stream = io.BytesIO()
    kind = random.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for name, content in _MEMBERS.items():
            info = tarfile.TarInfo(name[-90:] if kind == tarfile.USTAR_FORMAT else name)
            info.size = len(content)
            info.type = random.choice((tarfile.REGTYPE,) * 9 + (tarfile.GNUTYPE_SPARSE,))
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _repair_tar(content: bytes) -> bytes:
    """Compute the checksum of every block that looks like the header of a member."""
    blocks = [bytearray(content[place : place + 512]) for place in range(0, len(content), 512)]
    for block in blocks:
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % (sum(block) % 8**6)
    return b"".join(blocks)


def _draw_archive(random: Random) -> DamagedFile:
    if random.random() < 0.4:
        names = {
            random.choice((name, name, "../x", "/x", "a\\..\\b", "x\0y")): c
            for name, c in _MEMBERS.items()
        }
        return DamagedFile(mutate_bytes(zipped(names, random), [], random), ".zip")
    pack, inner = random.choice(_PACKERS), _tar(random)
    if random.random() < 0.6:
        return DamagedFile(pack(_repair_tar(mutate_bytes(inner, [], random))), ".tar")
    return DamagedFile(mutate_bytes(pack(inner), [], random), ".tar")


def _read_archive(path: Path) -> None:
    place = path.parent / "place"
    try:
        for _read in unpack(path, place / "folder"):
            pass
    finally:
        outside = [found for found in place.glob("*") if found.name != "folder"]
        links = [found for found in place.rglob("*") if found.is_symlink()]
        shutil.rmtree(place, ignore_errors=True)
        if outside or links:
            raise BrokenRuleError(f"left the folder: {outside}, links: {links}")


def _draw_packed(random: Random) -> DamagedFile:
    packed = gzip.compress(b"digits" * 100, 1, mtime=0)
    return DamagedFile(mutate_bytes(packed, [packed], random), ".gz")


def _read_packed(path: Path) -> None:
    place = path.parent / "unpacked"
    try:
        decompress(path, place)
    finally:
        place.unlink(missing_ok=True)


TARGETS = {
    "archives": Target(_draw_archive, _read_archive),
    "packed": Target(_draw_packed, _read_packed),
}
