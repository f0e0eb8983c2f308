"""The user's own images: normal ones for training, and test images if there are any.

`root` is a folder, or a text file with one path per line. The normal images of a folder are those
in the first of `train/good`, `train` and `good` that exists, else those directly in the folder.
Test images lie in `test`, or beside `good`, in one folder per label. The label `good` is normal,
every other label is anomalous. Masks are optional: `ground_truth/<label>/<stem>_mask.png`, or
without `_mask`, in any image format.
"""

from collections.abc import Sequence
from pathlib import Path

from anomaly_cli.data.mvtec import find_mask, list_masks
from anomaly_cli.data.samples import GOOD, Sample
from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.files.images import is_image, list_folder
from anomaly_cli.files.lists import is_file_list, read_file_list

TRAIN, TEST, TRUTH = "train", "test", "ground_truth"
_NO_LABELS = frozenset({TRAIN, TEST, TRUTH})


def select_categories(root: Path, category: str) -> list[str]:
    """Choose the name of the model: `category`, or for "all" the name of the folder or list.

    Returns:
        One name.

    Raises:
        ConfigError: `category` is a path, not a plain name.
        DataError: `root` is neither a folder nor a list.
    """
    if not root.is_dir() and not is_file_list(root):
        raise DataError(
            f"{root} is neither a folder nor a .txt list; --data must name the images to learn"
        )
    if category == "all":
        place = root.resolve()
        return [place.stem if place.is_file() else place.name]
    if Path(category).name != category:
        raise ConfigError(f"--category {category} must be a plain name: it names the model")
    return [category]


def training_images(root: Path, category: str) -> list[Path]:  # noqa: ARG001 - as all data sets
    """List the normal images, sorted by name; those of a list keep its order.

    Raises:
        DataError: there are fewer than three, or a list cannot be read or names a file that is
            not an image.
    """
    paths, place = normal_images(root)
    if len(paths) < 3:
        raise DataError(
            f"{place} holds {len(paths)} images; training needs at least 3 normal ones, in "
            f"{root}/train/good, {root}/good or directly in {root}"
        )
    return paths


def normal_images(root: Path) -> tuple[list[Path], Path]:
    """Find the normal images, if any, and the folder or list that contains them.

    Raises:
        DataError: a list cannot be read, or names a file that is not an image.
    """
    if is_file_list(root):
        return _listed(root), root
    for folder in (root / TRAIN / GOOD, root / TRAIN, root / GOOD):
        if folder.is_dir():
            return list_folder(folder), folder
    return list_folder(root), root


def test_samples(root: Path, category: str) -> list[Sample]:  # noqa: ARG001 - as all data sets
    """List the test images with their masks, if any, sorted by label and name.

    Without any label, these are the normal images themselves. They only show how often a normal
    image is a false alarm; `explain_gaps` names the images that are missing.

    Raises:
        DataError: there are no images at all, or a list cannot be read or names a file that is
            not an image.
    """
    samples = labelled_samples(root)
    if not samples:
        samples = [Sample(path, GOOD, None) for path in normal_images(root)[0]]
    if not samples:
        raise DataError(f"no images under {root}; expected test/good and test/<kind of defect>")
    return samples


test_samples.__test__ = False  # type: ignore[attr-defined] # pytest would collect it


def labelled_samples(root: Path) -> list[Sample]:
    """List the images whose folder is a label, sorted by label and path.

    Without a `test` folder, the result is empty if no image is anomalous. In a list without
    `test`, folders are labels only if one of them is `good`.

    Raises:
        DataError: a list cannot be read, or names a file that is not an image.
    """
    if is_file_list(root):
        paths = _listed(root)
        is_split = any(path.parent.parent.name == TEST for path in paths)
        if not (is_split or any(path.parent.name == GOOD for path in paths)):
            return []
    else:
        is_split = (root / TEST).is_dir()
        folder = root / TEST if is_split else root
        labels = [p for p in folder.glob("*") if p.is_dir() and not p.name.startswith(".")]
        labels = [label for label in labels if is_split or label.name not in _NO_LABELS]
        paths = [path for label in labels for path in list_folder(label)]
    samples = sorted((_sample(path) for path in paths), key=lambda s: (s.defect_type, s.path))
    return samples if is_split or any(sample.is_anomalous for sample in samples) else []


def _sample(path: Path) -> Sample:
    label = path.parent.name
    split = path.parent.parent
    home = split.parent if split.name == TEST else split
    masks = {} if label == GOOD else list_masks(home / TRUTH / label)
    return Sample(path, label, find_mask(path.stem, masks))


def _listed(root: Path) -> list[Path]:
    paths = read_file_list(root)
    for path in paths:
        if not is_image(path):
            raise DataError(f"{path} is not an image by its name, but {root} names it")
    return paths


def explain_gaps(root: Path, category: str, samples: Sequence[Sample]) -> list[str]:  # noqa: ARG001
    """Explain which metrics are missing or too good, and which images they need.

    Returns:
        One sentence for each gap.
    """
    gaps = []
    anomalous = [sample for sample in samples if sample.is_anomalous]
    normal = len(samples) - len(anomalous)
    if not labelled_samples(root):
        gaps.append(
            f"{root} has no test images: the {normal} normal images are scored instead, most of "
            "which the model was trained on"
        )
    elif trained := len({s.path for s in samples} & {*normal_images(root)[0]}):
        gaps.append(
            f"the {trained} normal images of {root} are scored too, most of which the model was "
            f"trained on, so that image metrics are too good; they need others in {TEST}/{GOOD}"
        )
    if not anomalous:
        gaps.append(
            "image metrics such as image AUROC are not available: they need anomalous images in "
            f"{TEST}/<kind of defect>"
        )
    elif not normal:
        gaps.append(
            "image metrics such as image AUROC are not available: they need normal images in "
            f"{TEST}/{GOOD}"
        )
    return gaps
