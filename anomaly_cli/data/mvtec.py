"""The MVTec AD layout on disk -> normal training images, and test samples with masks.

`<root>/<category>/train/good/*`, `<root>/<category>/test/<defect type>/*`, and
`<root>/<category>/ground_truth/<defect type>/<stem>_mask.png`; `good` is the defect type of normal.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.data.samples import GOOD, Sample
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import list_folder


class NormalSplit(NamedTuple):
    """Normal training images that fit the model, and those held out to select and calibrate it."""

    fit: list[Path]
    held_out: list[Path]
    held_out_parts: int  # of which there are photographs among those held out


def place_in_layout(path: Path) -> Path:
    """Category, `test`, defect type and stem of a test image: where MVTec's script wants its map.

    Raises:
        DataError: the image does not lie in the layout.
    """
    place = path.absolute()
    if len(place.parts) < 5 or place.parts[-3] != "test":
        raise DataError(f"{path} does not lie in <category>/test/<defect type>/ as MVTec has it")
    return Path(*place.parts[-4:-1], place.stem)


def find_categories(root: Path) -> list[str]:
    """Names of the folders of `root` that hold `train/good`, sorted.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(
            f"{root} does not exist; --data must name the folder that holds the categories"
        )
    return sorted(path.parent.parent.name for path in root.glob(f"*/train/{GOOD}"))


def select_categories(root: Path, category: str) -> list[str]:
    """The category of that name, or all of `root` for "all".

    Raises:
        DataError: the category is not there; the message lists those that are.
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
    """Normal training images of a category, sorted by name. Reads nothing else of the category.

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


def split_normal(
    paths: Sequence[Path], *, held_out: float, seed: int, groups: NDArray[np.int_] | None = None
) -> NormalSplit:
    """Hold a random share of the normal images out, at least one, and leave at least two to fit.

    Args:
        paths: of N normal images.
        held_out: the share.
        seed: of the draw.
        groups: (N,) numbers; images of one number stay together, unless they are more than are to
            be held out: that is a kind of part, and not one part that was photographed again.
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
    # Where nothing but groups is left that are too large, one of them is parted.
    left = [index for index in order if index not in chosen]
    chosen.update([index for index in left if index in twins[left[0]]][: count - len(chosen)])
    return NormalSplit(
        fit=[path for index, path in enumerate(paths) if index not in chosen],
        held_out=[path for index, path in enumerate(paths) if index in chosen],
        held_out_parts=len({min(twins[index]) for index in chosen}),
    )


def count_held_out(images: int, held_out: float) -> int:
    """How many of so many normal images a share of them is."""
    return min(max(1, round(held_out * images)), images - 2)


def test_samples(root: Path, category: str) -> list[Sample]:
    """Test images of a category with their masks, sorted by defect type and name.

    Raises:
        DataError: there are none, or a defective image has no mask.
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


def list_masks(folder: Path) -> dict[str, Path]:
    """Masks directly in `folder` by their stem; of several with one stem, the first by name."""
    return {path.stem: path for path in reversed(list_folder(folder))}


def find_mask(stem: str, masks: Mapping[str, Path]) -> Path | None:
    """The mask of the image of that stem, `<stem>_mask` or `<stem>`, in any format."""
    return masks.get(f"{stem}_mask") or masks.get(stem)


def _mask_of(path: Path, category: Path) -> Path:
    folder = category / "ground_truth" / path.parent.name
    mask = find_mask(path.stem, list_masks(folder))
    if mask is None:
        raise DataError(f"{path} has no mask; expected {folder / (path.stem + '_mask.png')}")
    return mask
