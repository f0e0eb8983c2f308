"""Training images, and test samples with masks, in the layout of MVTec AD.

The layout is `<root>/<category>/train/good/*`, `<root>/<category>/test/<defect type>/*` and
`<root>/<category>/ground_truth/<defect type>/<stem>_mask.png`. The defect type of normal images
is `good`.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from anomaly_cli.data.samples import GOOD, Sample
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import list_folder


def place_in_layout(path: Path) -> Path:
    """Build the relative path at which MVTec's evaluation script expects the map of a test image.

    Returns:
        `<category>/test/<defect type>/<stem>`, without a suffix.

    Raises:
        DataError: the image does not lie in `<category>/test/<defect type>/`.
    """
    place = path.absolute()
    if len(place.parts) < 5 or place.parts[-3] != "test":
        raise DataError(f"{path} does not lie in <category>/test/<defect type>/ as MVTec has it")
    return Path(*place.parts[-4:-1], place.stem)


def find_categories(root: Path) -> list[str]:
    """List the names of the folders of `root` that contain `train/good`, sorted.

    Raises:
        DataError: `root` is not a folder.
    """
    if not root.is_dir():
        raise DataError(
            f"{root} does not exist; --data must name the folder that holds the categories"
        )
    return sorted(path.parent.parent.name for path in root.glob(f"*/train/{GOOD}"))


def select_categories(root: Path, category: str) -> list[str]:
    """Select the category named `category`, or all categories of `root` for "all".

    Raises:
        DataError: `root` has no such category; the message lists those that it has.
    """
    found = find_categories(root)
    if category == "all" and found:
        return found
    if category in found:
        return [category]
    if not found:
        is_category = (root / "train" / GOOD).is_dir()
        hint = f"; did you mean --data {root.parent} --category {root.name}?" if is_category else ""
        raise DataError(f"no categories under {root}: expected <category>/train/{GOOD}{hint}")
    close = difflib.get_close_matches(category, found, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise DataError(f"no category {category} under {root}; {hint}found: {', '.join(found)}")


def training_images(root: Path, category: str) -> list[Path]:
    """List the normal training images of a category, sorted by name. No other folder is read.

    Raises:
        DataError: there are fewer than three.
    """
    folder = root / category / "train" / GOOD
    paths = list_folder(folder)
    if len(paths) < 3:
        raise DataError(
            f"{folder} holds {len(paths)} images; training needs at least 3 normal ones"
        )
    return paths


def test_samples(root: Path, category: str) -> list[Sample]:
    """List the test images of a category with their masks, sorted by defect type and name.

    Raises:
        DataError: there are no test images, or an anomalous image has no mask.
    """
    folder = root / category / "test"
    samples = [
        Sample(path, kind.name, None if kind.name == GOOD else _mask_of(path, root / category))
        for kind in sorted(folder.glob("*"))
        if kind.is_dir()
        for path in list_folder(kind)
    ]
    if not samples:
        raise DataError(f"no test images under {folder}; expected <defect type>/<image>")
    return samples


test_samples.__test__ = False  # type: ignore[attr-defined] # pytest would collect it


def _refuse_both(first: Path, second: Path) -> None:
    raise DataError(f"{first} and {second.name} are masks of one image; keep one of them")


def list_masks(
    folder: Path, *, on_same: Callable[[Path, Path], object] = _refuse_both
) -> dict[str, Path]:
    """Index the masks directly in `folder` by stem.

    Args:
        folder: of the masks of one defect type.
        on_same: called with two masks of one stem, of which the first is kept.

    Raises:
        DataError: two masks have one stem, and there is no `on_same`.
    """
    found: dict[str, Path] = {}
    for path in list_folder(folder):
        if path.stem in found:
            on_same(found[path.stem], path)
        else:
            found[path.stem] = path
    return found


def find_mask(stem: str, masks: Mapping[str, Path]) -> Path | None:
    """Find the mask named `<stem>_mask` or `<stem>`, in any format; None if there is none."""
    return masks.get(f"{stem}_mask") or masks.get(stem)


def _mask_of(path: Path, category: Path) -> Path:
    folder = category / "ground_truth" / path.parent.name
    mask = find_mask(path.stem, list_masks(folder))
    if mask is None:
        raise DataError(f"{path} has no mask; expected {folder / (path.stem + '_mask.png')}")
    return mask
