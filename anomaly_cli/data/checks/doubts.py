"""Faults of a test split that change the figures of an evaluation, in one sentence each.

Masks are decoded, and files are compared byte by byte. `check-data` decodes the images as well, and
names every place.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anomaly_cli.data.checks.checks import are_inverted, mask_faults
from anomaly_cli.data.checks.findings import RULES
from anomaly_cli.data.checks.inspection import MaskFacts, inspect_mask
from anomaly_cli.data.samples import Sample
from anomaly_cli.files.atomic import hash_file

_THREADS = 4
_DOUBTFUL = ("mask-full", "mask-lossy", "mask-grey")  # the others stop an evaluation


def find_doubts(samples: Sequence[Sample], normal: Sequence[Path]) -> list[str]:
    """Find what makes the figures of test images doubtful.

    Args:
        samples: the test images, with their masks.
        normal: the training images, or none if they are not at hand.

    Returns:
        One sentence for each kind of fault, with the number of files and the first one.
    """
    return [*_doubt_masks(samples), *_doubt_copies(samples, normal)]


def _doubt_masks(samples: Sequence[Sample]) -> list[str]:
    paths = [sample.mask_path for sample in samples if sample.mask_path]
    with ThreadPoolExecutor(_THREADS) as pool:
        inspected = list(pool.map(inspect_mask, paths))
    masks = [mask for mask in inspected if isinstance(mask, MaskFacts)]
    found: dict[str, list[Path]] = defaultdict(list)
    if are_inverted(masks):
        found["mask-inverted"] = [mask.path for mask in masks]
    for mask in masks:
        for kind in mask_faults(mask):
            if kind in _DOUBTFUL:
                found[kind].append(mask.path)
    return [
        f"{len(places)} of {len(masks)} masks, such as {_name(places[0])}: {RULES[kind].what}"
        for kind, places in found.items()
    ]


def _doubt_copies(samples: Sequence[Sample], normal: Sequence[Path]) -> list[str]:
    """Find test images that are copies of training images, or of test images."""
    trained = set(normal)
    labels = {sample.path: sample.is_anomalous for sample in samples}
    leaked, contradicted, twice = [], [], []
    for group in _equal_files([*normal, *(path for path in labels if path not in trained)]):
        tested = [path for path in group if path in labels and path not in trained]
        if len(tested) < len(group):
            leaked += tested
        if len({labels[path] for path in tested}) == 2:
            contradicted += tested
        twice += tested[1:]
    doubts = [
        (leaked, "are also training images, so that figures are too good"),
        (contradicted, "are called good and defective at once"),
        (twice, "are copies of others, and count twice"),
    ]
    return [
        f"{len(places)} of {len(labels)} test images, such as {_name(places[0])}, {what}"
        for places, what in doubts
        if places
    ]


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _equal_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Group files of equal bytes, two or more a group; only those of equal size are read."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if path.is_file():  # one that is gone is named where it is read
            sizes[path.stat().st_size].append(path)
    groups: dict[str, list[Path]] = defaultdict(list)
    for alike in sizes.values():
        for path in alike if len(alike) > 1 else ():
            groups[hash_file(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]
