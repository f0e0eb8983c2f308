"""The folder that a run writes to: here a local one; `remote_output` has one in a bucket."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Destination:
    """A local output folder: files are where they belong as soon as they are written."""

    threads = 0  # that `deliver` should be called by; 0: it does nothing

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # that files are written to

    def pull(self, is_needed: Callable[[str], bool] = lambda _name: False) -> None:
        """Bring to `folder` what tells whether another run has written there, and how far.

        Args:
            is_needed: says by name which manifests are read to their end; of others, the first
                line is.

        Raises:
            OutputError: the bucket does not exist, or may not be read.
        """

    def deliver(self, record: Mapping[str, Any]) -> None:
        """Bring the pictures of an image to where they belong.

        Args:
            record: the line of the image in the manifest, which has to be written after this.

        Raises:
            OutputError: a file cannot be written.
        """

    def publish(self, *, is_due: bool = True) -> None:
        """Bring manifests and settings to where they belong, and remove those that were removed.

        Args:
            is_due: False: do it only if it was last done long ago.

        Raises:
            OutputError: a file cannot be written.
        """

    def final(self, path: Path) -> Path:
        """Find where a file in `folder` belongs."""
        return path


def files_of(record: Mapping[str, Any]) -> list[str]:
    """List the files of an image that its line in a manifest names."""
    latents = record.get("latents") or []
    return [*record.get("outputs", {}).values(), *(latent["overlay"] for latent in latents)]
