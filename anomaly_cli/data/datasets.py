"""Data sets that `train`, `localize` and `evaluate` support, each with the same functions."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from anomaly_cli.config.names import DatasetName
from anomaly_cli.data import folder, mnist, mvtec, ucsd
from anomaly_cli.data.samples import Sample
from anomaly_cli.errors import DataError
from anomaly_cli.files.atomic import fingerprint
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.read import read_image


class Dataset(NamedTuple):
    """Functions that read a data set on disk; `root` is the path given as `--data`."""

    select_categories: Callable[[Path, str], list[str]]  # root, a name or "all" -> names
    training_images: Callable[[Path, str], list[Path]]  # root, category -> normal images
    test_samples: Callable[[Path, str], list[Sample]]  # root, category -> test images
    read_image: Callable[[Path], RGBImage] = read_image
    stored_files: Callable[[Sequence[Path]], list[Path]] = list  # images -> their files
    # root, category, test samples -> sentences about data and metrics that are missing
    explain_gaps: Callable[[Path, str, Sequence[Sample]], list[str]] = lambda *_: []


DATASETS: dict[DatasetName, Dataset] = {
    "mvtec": Dataset(mvtec.select_categories, mvtec.training_images, mvtec.test_samples),
    "mnist": Dataset(
        mnist.select_categories,
        mnist.training_images,
        mnist.test_samples,
        mnist.read_image,
        mnist.stored_files,
    ),
    "ucsd": Dataset(
        ucsd.select_categories,
        ucsd.training_images,
        ucsd.test_samples,
        explain_gaps=ucsd.explain_gaps,
    ),
    "folder": Dataset(
        folder.select_categories,
        folder.training_images,
        folder.test_samples,
        explain_gaps=folder.explain_gaps,
    ),
}


def data_fingerprint(
    dataset: Dataset, paths: Sequence[Path], *, root: Path, masks: Sequence[Path] = ()
) -> str:
    """Compute a SHA-256 over the names and bytes of the files of these images, and of the masks.

    Names are relative to `root`. If a file lies outside `root`, they are relative to the deepest
    folder that contains all files.

    Returns:
        Hexadecimal digits.
    """
    files = [*dataset.stored_files(paths), *masks]
    if not all(path.is_relative_to(root) for path in files):
        root = Path(os.path.commonpath([path.parent for path in files]))
    return fingerprint(files, root=root)


def present_training_images(dataset: Dataset, root: Path, category: str) -> list[Path]:
    """List the normal training images, or none where they are not at hand."""
    try:
        return dataset.training_images(root, category)
    except DataError:
        return []


def mask_gap(samples: Sequence[Sample]) -> str:
    """Explain why pixel metrics are not available.

    Returns:
        One sentence; empty if there are anomalous images and each of them has a mask.
    """
    anomalous = [sample for sample in samples if sample.is_anomalous]
    if not anomalous:
        return "pixel metrics are not available: they need anomalous images, each with a mask"
    missing = sum(sample.mask_path is None for sample in anomalous)
    if not missing:
        return ""
    return (
        f"pixel metrics are not available: {missing} of {len(anomalous)} anomalous images have no "
        "mask, and each needs one"
    )
