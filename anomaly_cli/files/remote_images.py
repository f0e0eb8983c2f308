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
    ImageFile,
    RGBImage,
    describe_others,
    is_image,
    is_manifest,
)
from anomaly_cli.files.lists import LIST_SUFFIX, read_lines
from anomaly_cli.files.read import read_image
from anomaly_cli.files.remote import Item, match, read_into, walk

_GLOB = frozenset("*?[")


def find_remote_images(
    inputs: Sequence[str],
    *,
    exclude: Path | None = None,
    on_left_out: Callable[[str], object] = lambda _text: None,
) -> list[ImageFile]:
    """Find the images of objects, folders, globs and lists, as `find_images` does. Reads no image.

    Args:
        inputs: addresses from the user; one of a .txt is a list.
        exclude: a folder to leave out, such as the output folder inside an input folder.
        on_left_out: called with a sentence for each folder of results, and one for all files.

    Raises:
        ConfigError: an input is no address.
        DataError: an input does not exist or is not an image, or there are no images.
        StorageError: the storage cannot be used.
    """
    enters = partial(_enters, exclude=exclude, on_left_out=on_left_out)
    images: set[Address] = set()
    others: set[Address] = set()
    folders: set[Address] = set()  # the deepest that holds all of them is the root
    for address in [each for text in inputs for each in _expand(text)]:
        is_list = address.suffix.lower() == LIST_SUFFIX
        objects = (
            _read_list(address) if is_list else [i.address for i in walk(address, enters=enters)]
        )
        is_folder = not is_list and objects != [address]
        folders |= {address} if is_folder else {each.parent for each in objects}
        for each in objects:
            (images if is_image(each) else others).add(each)
    if exclude is not None:
        images = {image for image in images if not image.is_relative_to(exclude)}
    if others:
        on_left_out(describe_others(sorted(others)))
    if not images:
        expected = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise DataError(f"no images under {', '.join(inputs)}; expected {expected}")
    root = Path(posixpath.commonpath([folder.as_posix() for folder in folders]))
    return [ImageFile(path, Path(*path.parts[len(root.parts) :])) for path in sorted(images)]


def _read_list(address: Address) -> list[Address]:
    """Read the addresses of a list; relative ones start at the folder of the list.

    Nobody asks whether they exist: one that does not is an error of its image.

    Raises:
        DataError: the list cannot be read, is empty, or names what is no address.
    """
    with tempfile.TemporaryDirectory(prefix="anomaly-cli-") as folder:
        copy = Path(folder) / address.name
        read_into(address, copy)
        try:
            lines = read_lines(copy)
        except DataError as error:
            raise DataError(str(error).replace(str(copy), str(address))) from error
    found = [Address(line) if is_address(line) else address.parent / line for line in lines]
    for each in found:
        if ".." in each.parts or each.scheme != address.scheme:
            raise DataError(f"{address} names {each}, which is no address in this storage")
    return found


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
    if any(is_manifest(item.address.name) for item in items):
        on_left_out(f"{folder} holds results of an earlier run")
        return False
    return True


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
