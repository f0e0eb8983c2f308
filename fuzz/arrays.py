"""Files of numbers: saved maps, idx files of MNIST, and the npz file of dSprites."""

import gzip
import io
import struct
import zipfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.mnist import read_idx, read_image
from anomaly_cli.data.saved_maps import read_map
from anomaly_cli.disentangle.dsprites_file import read_packed_images
from anomaly_cli.files.resize import fit_map
from fuzz.mutation import mutate_bytes
from fuzz.pictures import DEEP, RAMP, saved, saved_tiff
from fuzz.target import BrokenRuleError, DamagedFile, Target

_FACTORS = np.arange(40, dtype=np.int64).reshape(8, 5)


def _saved_array(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=True)
    return stream.getvalue()


@cache
def _map_seeds() -> list[tuple[bytes, str]]:
    kinds = (np.float16, np.float32, np.float64, np.uint16, np.int64, np.longdouble)
    arrays = [
        *((RAMP * 100).astype(kind) for kind in kinds),
        *(RAMP[None], np.asfortranarray(RAMP), RAMP.astype(">f4"), RAMP.astype(np.complex64)),
        *(np.array([{}], object), RAMP > 0.5, RAMP.astype("datetime64[s]")),
    ]
    archive = io.BytesIO()
    np.savez(archive, RAMP)
    return [
        *((_saved_array(array), ".npy") for array in arrays),
        *((_saved_array(RAMP, (2, 0)), ".npy"), (archive.getvalue(), ".npy")),
        *((saved_tiff(RAMP.astype(kind)), ".tiff") for kind in kinds[:4]),
        *((saved_tiff(RAMP, compression="zlib"), ".tif"), (saved_tiff(RAMP[None]), ".tiff")),
        *((saved_tiff(RAMP, bigtiff=True), ".tiff"), (saved(RAMP, "TIFF"), ".tiff")),
        *((saved(DEEP, "PNG"), ".png"), (saved(DEEP, "TIFF", compression="tiff_lzw"), ".tif")),
    ]


def _draw_map(random: Random) -> DamagedFile:
    content, suffix = random.choice(_map_seeds())
    others = [own for own, _suffix in _map_seeds()]
    return DamagedFile(mutate_bytes(content, others, random), suffix)


def _read_map(path: Path) -> None:
    anomaly_map = read_map(path)
    if anomaly_map.dtype != np.float32 or anomaly_map.ndim != 2:
        raise BrokenRuleError(f"a map is {anomaly_map.dtype} of shape {anomaly_map.shape}")
    fit_map(anomaly_map, 64, 64)


def _draw_digits(random: Random) -> DamagedFile:
    digits = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    seeds = [
        struct.pack(">4I", 0x803, *digits.shape) + digits.tobytes(),
        struct.pack(">2I", 0x801, 4) + bytes(range(4)),
    ]
    content = mutate_bytes(random.choice(seeds), seeds, random)
    if random.random() < 0.5:
        return DamagedFile(content, "")
    packed = gzip.compress(content, 1, mtime=0)
    is_repaired = random.random() < 0.5
    return DamagedFile(packed if is_repaired else mutate_bytes(packed, seeds, random), ".gz")


def _read_digits(path: Path) -> None:
    read_idx.cache_clear()
    image = read_image(path / "00001")
    if image.ndim != 3 or image.shape[2] != 3:
        raise BrokenRuleError(f"an image is of shape {image.shape}")


@cache
def _sprite_seed() -> dict[str, bytes]:
    images = np.random.default_rng(0).integers(0, 2, (len(_FACTORS), 64, 64), np.uint8)
    classes = np.concatenate([np.zeros((len(_FACTORS), 1), np.int64), _FACTORS], axis=1)
    arrays = {"imgs": images, "latents_classes": classes, "metadata": np.array({}, object)}
    return {f"{name}.npy": _saved_array(array) for name, array in arrays.items()}


def zipped(members: dict[str, bytes], random: Random) -> bytes:
    """Pack members into a zip, with or without compression."""
    stream = io.BytesIO()
    kind = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return stream.getvalue()


def _draw_sprites(random: Random) -> DamagedFile:
    members = dict(_sprite_seed())
    if random.random() < 0.5:  # inside, where the checksum of the member fits
        name = random.choice(list(members))
        members[name] = mutate_bytes(members[name], list(members.values()), random)
        return DamagedFile(zipped(members, random), ".npz")
    return DamagedFile(mutate_bytes(zipped(members, random), [], random), ".npz")


def _read_sprites(path: Path) -> None:
    read_packed_images(path, _FACTORS)


TARGETS = {
    "maps": Target(_draw_map, _read_map),
    "digits": Target(_draw_digits, _read_digits),
    "sprites": Target(_draw_sprites, _read_sprites),
}
