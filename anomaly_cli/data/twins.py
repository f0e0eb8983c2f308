"""Photographs of one and the same part: they must not lie on both sides of a split.

A camera takes some parts twice, at another exposure or a little shifted. A model that was fitted to
one of two such images finds the other one unusually normal. If that is held out, thresholds come
out too low, and every new part is called anomalous more often than promised.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import radius_neighbors_graph

from anomaly_cli.data.checks.duplicates import unit_thumbnails, usual_distance
from anomaly_cli.data.checks.inspection import grey_thumbnail
from anomaly_cli.files.images import RGBImage

# Share of what usually separates two images of the category. Of the magnetic tiles, whose test
# split was made to have no tile of the training split, no test image is nearer to one of these than
# 0.27, and half of the training images are nearer to each other; of bottles, none is below 0.45.
MAX_SHARE_OF_USUAL = 0.3


def group_twins(paths: Sequence[Path], read: Callable[[Path], RGBImage]) -> NDArray[np.int_]:
    """The number of the group of each image, (N,); twins and twins of twins share one.

    Two images are twins if their thumbnails, at equal mean and contrast, differ by at most
    `MAX_SHARE_OF_USUAL` of what usually separates two images of the category.

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
