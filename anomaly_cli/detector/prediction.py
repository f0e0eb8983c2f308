"""The prediction for one image: anomaly map, score, mask, and their files. Loads no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.detector.masks import anomaly_mask
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import AnomalyMap, ColourRange, Mask, RGBImage, write_png, write_tiff
from anomaly_cli.files.resize import fit_map
from anomaly_cli.pictures.colours import PALETTE, heat_levels, overlay
from anomaly_cli.pictures.patches import Box

if TYPE_CHECKING:
    from anomaly_cli.detector.latents import ImageLatents

KINDS = ("maps", "heatmaps", "overlays", "masks")  # of output that `Prediction.save` writes


class NearestPatch(NamedTuple):
    """The normal patch that is nearest to the highest pixel of an anomaly map."""

    place: Box  # around that pixel, in the image itself
    image: str  # training image, relative to the folder of the category
    box: Box  # of the patch, in the training image
    distance: float  # 1 on average for places of normal images

    def record(self) -> dict[str, Any]:
        """List the fields as plain JSON values."""
        return self._asdict() | {"place": list(self.place), "box": list(self.box)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """An image with its anomaly map, score and mask.

    Maps and masks at the size of the image are computed when they are first asked for.
    """

    height: int  # of the image, in pixels
    width: int
    network_map: AnomalyMap  # (S, S) float32, the anomaly map at the network's size
    score: float  # image-level anomaly score: the maximum of `network_map`
    threshold: Threshold
    colour_range: ColourRange  # map values at the two ends of the colour bar
    position: int = 0  # index among the images of one call
    path: Path | None = None  # file that the image was read from; None: an array
    nearest: NearestPatch | None = None  # of the highest pixel, for maps with a memory
    latents: "ImageLatents | None" = None  # None: not asked for
    load: Callable[[], RGBImage]  # gives the image, (H, W, 3) uint8

    @cached_property
    def image(self) -> RGBImage:
        """The image, (H, W, 3) uint8; a large one is read again when it is first asked for.

        Raises:
            DataError: the file cannot be read any more.
        """
        return self.load()

    @property
    def is_anomalous(self) -> bool:
        """Whether the score exceeds the threshold."""
        return self.threshold.is_exceeded(self.score)

    @cached_property
    def anomaly_map(self) -> AnomalyMap:
        """Anomaly score of each pixel, (H, W) float32; comparable between images of one model."""
        return fit_map(self.network_map, self.height, self.width)

    @cached_property
    def mask(self) -> Mask:
        """Anomalous regions, (H, W) bool."""
        return anomaly_mask(self.anomaly_map, self.threshold)

    @cached_property
    def _levels(self) -> NDArray[np.uint8]:
        return heat_levels(self.anomaly_map, self.colour_range)

    def save(
        self,
        folder: Path | str,
        name: Path | str | None = None,
        *,
        kinds: Sequence[str] = KINDS,
        map_place: str | None = None,
    ) -> dict[str, str]:
        """Write the anomaly map, heatmap, overlay and mask, as `localize` does.

        Each file is complete or absent. Files of the same name are replaced.

        Args:
            folder: output folder, which is created if it is missing.
            name: name of the files without a suffix, relative to the folder of their kind. By
                default it is that of the image's own file.
            kinds: some of `KINDS`.
            map_place: path of the anomaly map in `folder`, instead of `maps/<name>.tiff`.

        Returns:
            Paths relative to `folder`, by `map`, `heatmap`, `overlay` and `mask`.

        Raises:
            DataError: the image comes from no file, and no name is given; or a large image cannot
                be read again.
            OutputError: a file cannot be written.
        """
        if name is None and self.path is None:
            raise DataError("an image that comes from no file needs a name to be saved under")
        stem = Path(name) if name is not None else Path((self.path or Path()).stem)
        root, outputs = Path(folder), dict[str, str]()
        # All is drawn before anything is written: what fails here leaves no file behind.
        anomaly_map, mask = self.anomaly_map, self.mask
        drawn = overlay(self.image, self._levels, mask) if "overlays" in kinds else None
        if "maps" in kinds:
            outputs["map"] = map_place or place("maps", stem, ".tiff")
            write_tiff(root / outputs["map"], anomaly_map)
        if "heatmaps" in kinds:
            outputs["heatmap"] = place("heatmaps", stem, ".png")
            write_png(root / outputs["heatmap"], self._levels, palette=PALETTE)
        if drawn is not None:
            outputs["overlay"] = place("overlays", stem, ".png")
            write_png(root / outputs["overlay"], drawn)
        if "masks" in kinds:
            outputs["mask"] = place("masks", stem, ".png")
            write_png(root / outputs["mask"], mask)
        return outputs

    def record(self, outputs: dict[str, str] | None = None) -> dict[str, Any]:
        """List score, verdict and size as plain JSON values, as in a line of the manifest."""
        return {
            "score": self.score,
            "is_anomalous": self.is_anomalous,
            "anomalous_share": float(self.mask.mean()),
            "height": self.height,
            "width": self.width,
            "outputs": outputs or {},
            **({} if self.nearest is None else {"nearest": self.nearest.record()}),
        }


def place(kind: str, stem: Path, suffix: str) -> str:
    """Name the file of one kind of output for an image, relative to the output folder."""
    return f"{kind}/{stem.as_posix()}{suffix}"


def box_around(row: int, column: int, height: int, width: int) -> Box:
    """Find the box of a patch on a grid (height, width); it covers 3 x 3 places."""
    edges = ((column - 1) / width, (row - 1) / height, (column + 2) / width, (row + 2) / height)
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    return left, top, right, bottom
