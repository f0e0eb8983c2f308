"""Images in a bucket: found as those of local folders are, and each read when it is its turn."""

import posixpath
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.files.address import Address, is_address, parse_place
from anomaly_cli.files.images import (
    IMAGE_SUFFIXES,
    MANIFEST_FILE,
    SHARD_MANIFESTS,
    ImageFile,
    RGBImage,
    describe_others,
    is_image,
)
from anomaly_cli.files.read import read_image
from anomaly_cli.files.remote import Item, match, read_into, walk

_GLOB = frozenset("*?[")


def find_remote_images(
    inputs: Sequence[str],
    *,
    exclude: Path | None = None,
    on_left_out: Callable[[str], object] = lambda _text: None,
) -> list[ImageFile]:
    """Find the images of addresses, folders and globs, as `find_images` does. Reads no image.

    Args:
        inputs: addresses from the user.
        exclude: a folder to leave out, such as the output folder inside an input folder.
        on_left_out: called with a sentence for each folder of results, and one for all files.

    Raises:
        ConfigError: an input is no address.
        DataError: an input does not exist or is not an image, or there are no images.
        StorageError: the storage cannot be used.
    """
    enters = partial(_enters, exclude=exclude, on_left_out=on_left_out)
    named = [address for text in inputs for address in _expand(text)]
    found: set[Path] = set()
    others: list[Path] = []
    folders: list[Path] = []
    for address in named:
        items = list(walk(address, enters=enters))
        is_object = any(item.address == address for item in items)
        folders.append(address.parent if is_object else address)
        images = {item.address for item in items if is_image(item.address)}
        found |= {image for image in images if not (exclude and image.is_relative_to(exclude))}
        others += sorted(item.address for item in items if item.address not in images)
    if others:
        on_left_out(describe_others(others))
    if not found:
        expected = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise DataError(f"no images under {', '.join(inputs)}; expected {expected}")
    root = Path(posixpath.commonpath([folder.as_posix() for folder in folders]))
    return [ImageFile(path, Path(*path.parts[len(root.parts) :])) for path in sorted(found)]


def _expand(text: str) -> list[Address]:
    address = parse_place(text)
    if not isinstance(address, Address):
        raise ConfigError(f"{text} is no address, but other images are in a bucket; name one kind")
    if not _GLOB.intersection(text):
        return [address]
    matches = match(address)
    if not matches:
        raise DataError(f"{text} does not exist and matches no image")
    return matches


def _enters(
    folder: Address,
    items: list[Item],
    *,
    exclude: Path | None,
    on_left_out: Callable[[str], object],
) -> bool:
    """Decide whether a folder is searched: not the output folder, nor one with results."""
    if exclude is not None and folder.is_relative_to(exclude):
        return False
    names = [item.address for item in items]
    if any(name.name == MANIFEST_FILE or name.match(SHARD_MANIFESTS) for name in names):
        on_left_out(f"{folder} holds results of an earlier run")
        return False
    return True


def are_addresses(inputs: Sequence[str]) -> bool:
    """Return whether any of the inputs is an address."""
    return any(map(is_address, inputs))


def read_remote_image(path: Path) -> RGBImage:
    """Read an image in a bucket, as `read_image` does; no copy is kept.

    Raises:
        DataError: there is no such object, it may not be read, or it cannot be decoded.
        StorageError: the storage cannot be used.
    """
    address = cast("Address", path)
    with tempfile.TemporaryDirectory(prefix="anomaly-cli-") as folder:
        copy = Path(folder) / f"image{address.suffix}"
        read_into(address, copy)
        try:
            return read_image(copy)
        except DataError as error:
            raise DataError(str(error).replace(str(copy), str(address))) from error
