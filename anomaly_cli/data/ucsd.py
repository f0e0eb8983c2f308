"""The UCSD pedestrian videos: training frames, and test frames with masks.

The layout is as published: `<root>/UCSDped1/Train/Train001/*.tif`, `Test/Test001/*.tif` and
`Test/Test001_gt/*.bmp`. Only some test clips have masks. The others are left out, because their
anomalous pixels are unknown. A frame whose mask is empty is normal.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from anomaly_cli.data.mvtec import list_masks
from anomaly_cli.data.samples import GOOD, Sample
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import list_folder
from anomaly_cli.files.read import read_mask

_EXPECTED = "expected UCSDped1 or UCSDped2 with Train/TrainNNN/*.tif"
_TRUTH = "_gt"  # suffix of the folder of a clip's masks


def select_categories(root: Path, category: str) -> list[str]:
    """Select the camera `category` (UCSDped1, UCSDped2), or all cameras of `root` for "all".

    Raises:
        DataError: `root` has no such camera; the message lists those that it has.
    """
    found = sorted(path.parent.name for path in root.glob("UCSDped*/Train"))
    if not found:
        raise DataError(f"no UCSD pedestrians under {root}; {_EXPECTED}")
    if category == "all":
        return found
    if category not in found:
        raise DataError(f"no {category} under {root}; found: {', '.join(found)}")
    return [category]


def training_images(root: Path, category: str) -> list[Path]:
    """List the frames of all training clips, sorted by clip and number.

    Raises:
        DataError: there are fewer than three.
    """
    folder = root / category / "Train"
    frames = [frame for clip in _clips(folder) for frame in list_folder(clip)]
    if len(frames) < 3:
        raise DataError(f"{folder} holds {len(frames)} frames; 3 are needed; {_EXPECTED}")
    return frames


def test_samples(root: Path, category: str) -> list[Sample]:
    """List the frames of the test clips that have masks.

    The defect type of an anomalous frame is the name of its clip.

    Raises:
        DataError: no clip has masks, a frame has no mask, or a mask cannot be read.
    """
    samples = [sample for clip in masked_clips(root, category) for sample in _clip_samples(clip)]
    if not samples:
        folder = root / category / "Test"
        raise DataError(f"no test clip with masks under {folder}; expected TestNNN and TestNNN_gt")
    return samples


test_samples.__test__ = False  # type: ignore[attr-defined] # pytest would collect it


def masked_clips(root: Path, category: str) -> list[Path]:
    """List the folders of the test clips that have masks."""
    return [clip for clip in _clips(root / category / "Test") if _truth(clip).is_dir()]


def explain_gaps(root: Path, category: str, samples: Sequence[Sample]) -> list[str]:  # noqa: ARG001
    """Name the test clips that are left out, in one sentence; empty if there are none."""
    clips = _clips(root / category / "Test")
    bare = [clip.name for clip in clips if not _truth(clip).is_dir()]
    if not bare:
        return []
    return [f"{len(bare)} of {len(clips)} test clips have no masks, left out: {', '.join(bare)}"]


def _clips(folder: Path) -> list[Path]:
    clips = [path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")]
    return sorted(clip for clip in clips if not clip.name.endswith(_TRUTH))


def _truth(clip: Path) -> Path:
    return clip.with_name(clip.name + _TRUTH)


def _clip_samples(clip: Path) -> list[Sample]:
    masks = list_masks(_truth(clip))
    samples = []
    for frame in list_folder(clip):
        mask = masks.get(frame.stem)
        if mask is None:
            raise DataError(f"{frame} has no mask; expected {_truth(clip) / frame.stem}.bmp")
        title = f"{clip.name}/{frame.name}"
        is_marked = _marks_something(mask)
        kind = clip.name if is_marked else GOOD
        samples.append(Sample(frame, kind, mask if is_marked else None, title))
    return samples


@lru_cache(maxsize=8192)  # a report reads the test split more than once
def _marks_something(mask: Path) -> bool:
    return bool(read_mask(mask).any())
