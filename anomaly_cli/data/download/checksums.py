"""MD5 and SHA-256 checksums of files, distinguished by their number of digits."""

import hashlib
from pathlib import Path

from anomaly_cli.files.atomic import hash_file

MD5_DIGITS = 32


def algorithm(checksum: str) -> str:
    """Name the algorithm of a checksum, MD5 or SHA-256; empty for no checksum."""
    if not checksum:
        return ""
    return "MD5" if len(checksum) == MD5_DIGITS else "SHA-256"


def has_checksum(path: Path, checksum: str) -> bool:
    """Check whether a file has the checksum; an empty checksum fits any file."""
    if algorithm(checksum) == "MD5":
        return _md5(path) == checksum
    return not checksum or hash_file(path) == checksum


def _md5(path: Path) -> str:
    # MD5 only detects damage in transit, but some files are published with nothing stronger.
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
