"""Split of the normal images into those that are fitted and those held out.

A camera takes some parts twice, at another exposure or a little shifted. A model that was fitted
to one of two such images finds the other one unusually normal. If that one is held out, thresholds
come out too low, and every new part causes more false alarms than promised. So photographs of one
part stay on one side of the split.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import radius_neighbors_graph

from anomaly_cli.data.checks.duplicates import unit_thumbnails, usual_distance
from anomaly_cli.data.checks.inspection import grey_thumbnail
from anomaly_cli.files.images import RGBImage

# Images of one part are nearer than this share of the usual distance between two images of a
# category. Measured on magnetic tiles, whose test split has no tile of the training split: no test
# image is nearer to a training image than 0.27, and half of the training images are nearer to each
# other. No two images of bottles are nearer than 0.45.
MAX_SHARE_OF_USUAL = 0.3


FEW = 20  # with fewer images than this, holding some out would leave too few to calibrate with


class NormalSplit(NamedTuple):
    """Normal training images that fit the model, and those held out to select and calibrate it.

    Where images are few, both are all images: each is compared with the patches of the others.
    """

    fit: list[Path]
    held_out: list[Path]
    held_out_parts: int  # number of different parts among those held out

    @property
    def is_few(self) -> bool:
        """Whether all images are used for both, and their own patches are left out."""
        return self.fit == self.held_out


def split_normal(
    paths: Sequence[Path], *, held_out: float, seed: int, groups: NDArray[np.int_] | None = None
) -> NormalSplit:
    """Hold out a random share of the normal images: at least one, and all but two at most.

    Args:
        paths: files of N normal images.
        held_out: the share, in (0, 1).
        seed: seed of the draw.
        groups: (N,) numbers of groups; the images of a group stay together. A group that has more
            images than are to be held out is ignored: it is a kind of part, and not one part that
            was photographed again.
    """
    count = count_held_out(len(paths), held_out)
    order = np.random.default_rng(seed).permutation(len(paths)).tolist()
    twins = {index: [index] for index in order}
    if groups is not None:
        for number in np.unique(groups):
            members = np.flatnonzero(groups == number).tolist()
            if len(members) <= count:
                twins |= dict.fromkeys(members, members)
    chosen: set[int] = set()
    for index in order:
        if index not in chosen and len(chosen) + len(twins[index]) <= count:
            chosen.update(twins[index])
    # If only groups are left that do not fit any more, one of them is divided.
    left = [index for index in order if index not in chosen]
    chosen.update([index for index in left if index in twins[left[0]]][: count - len(chosen)])
    return NormalSplit(
        fit=[path for index, path in enumerate(paths) if index not in chosen],
        held_out=[path for index, path in enumerate(paths) if index in chosen],
        held_out_parts=len({min(twins[index]) for index in chosen}),
    )


def share_normal(paths: Sequence[Path], groups: NDArray[np.int_] | None = None) -> NormalSplit:
    """Use all of a few normal images to fit and to calibrate; see `split_normal`."""
    parts = len(paths) if groups is None else len(np.unique(groups))
    return NormalSplit(list(paths), list(paths), parts)


def count_held_out(images: int, held_out: float) -> int:
    """Count the images that a share of them holds out: at least one, all but two at most."""
    return min(max(1, round(held_out * images)), images - 2)


def group_twins(paths: Sequence[Path], read: Callable[[Path], RGBImage]) -> NDArray[np.int_]:
    """Group the images of one part, and return the number of each image's group, (N,).

    Two images are twins if their thumbnails, at equal mean and contrast, differ by at most
    `MAX_SHARE_OF_USUAL` of what usually separates two images of the category. Twins, and twins of
    twins, form a group.

    Args:
        paths: images of one category.
        read: decodes an image.

    Raises:
        DataError: an image cannot be read.
    """
    with ThreadPoolExecutor(4) as pool:
        thumbnails = unit_thumbnails(list(pool.map(lambda path: grey_thumbnail(read(path)), paths)))
    limit = usual_distance(thumbnails) * MAX_SHARE_OF_USUAL
    graph = radius_neighbors_graph(thumbnails, limit)
    return np.asarray(connected_components(graph, directed=False)[1])
