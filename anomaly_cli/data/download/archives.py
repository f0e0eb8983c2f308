"""Unpacking of archives, member by member; members that would leave the folder are refused."""

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from anomaly_cli.errors import DataError, OutputError

_DAMAGED = (
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    RuntimeError,  # a zip with a password, or with a compression that Python lacks
    ValueError,
)


def unpack(archive: Path, folder: Path) -> Iterator[int]:
    """Unpack a tar (plain, gz, bz2, xz) or a zip into `folder`.

    Yields:
        Bytes of the archive read so far, after each member.

    Raises:
        DataError: the archive is damaged or of another kind, or a member has an absolute path,
            points outside `folder`, or is a link or a device.
        OutputError: the disk is full, or `folder` cannot be written to.
    """
    with _explained(archive, folder):
        if tarfile.is_tarfile(archive):
            yield from _unpack_tar(archive, folder)
        elif zipfile.is_zipfile(archive):
            yield from _unpack_zip(archive, folder)
        else:
            raise DataError(f"{archive.name} is neither a tar nor a zip archive, or is cut off")


def decompress(archive: Path, destination: Path) -> None:
    """Decompress a gzip file into `destination` and verify its checksum.

    Raises:
        DataError: the archive is damaged or not a gzip file.
        OutputError: `destination` cannot be written.
    """
    with _explained(archive, destination.parent):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(archive) as source, destination.open("wb") as target:
            shutil.copyfileobj(source, target)


def _unpack_tar(archive: Path, folder: Path) -> Iterator[int]:
    # Without the filter, which was added in 3.11.4, a member may be written anywhere.
    if not hasattr(tarfile, "data_filter"):
        raise DataError("this Python cannot unpack tar archives safely; 3.11.4 or newer can")
    with archive.open("rb") as stream, tarfile.open(fileobj=stream) as tar:
        for member in tar:
            # The filter would make an absolute name relative, but no honest data set has one.
            _check_name(archive, member.name)
            # Links have led out of the folder past the filter (CVE-2025-4517), and none is needed.
            if not (member.isfile() or member.isdir()):
                raise _refusal(archive, f"{member.name!r} is a link or a device")
            if not (folder / member.name).resolve().is_relative_to(folder.resolve()):
                raise _refusal(archive, f"{member.name!r} points outside the folder")
            tar.extract(member, folder, filter="data")
            yield stream.tell()
        # A tar ends before its gz or xz stream, whose checksum is only verified at the end.
        while tar.fileobj is not None and tar.fileobj.read(1 << 20):
            pass


def _unpack_zip(archive: Path, folder: Path) -> Iterator[int]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            _check_name(archive, member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if not made on Unix
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _refusal(archive, f"{member.filename!r} is a link or a device")
        read = 0
        for member in file.infolist():
            file.extract(member, folder)
            read += member.compress_size
            yield read


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive:
        raise _refusal(archive, f"{name!r} is an absolute path")
    if ".." in path.parts:
        raise _refusal(archive, f"{name!r} points outside the folder")


def _refusal(archive: Path, reason: str) -> DataError:
    return DataError(f"{archive.name} is refused, nothing of it is kept: {reason}")


@contextmanager
def _explained(archive: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{archive.name} is damaged or cut off: {reason}") from error
    except OSError as error:
        raise OutputError(f"cannot unpack into {folder}: {error.strerror or error}") from error
