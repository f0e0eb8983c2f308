"""Checks of a category: its counts, layout, masks, sizes, pixel values and copies.

The checks use facts that `inspection` has collected, and open no file. Each check returns the
places it found, by the kind of finding (key of `findings.RULES`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from anomaly_cli.data.checks.duplicates import (
    HASH_BITS,
    Pair,
    describe,
    group_equal,
    near_copies,
    usual_distance,
)
from anomaly_cli.data.checks.findings import Finding, Place
from anomaly_cli.data.checks.inspection import CategoryFacts, CategoryFiles, ImageFacts, MaskFacts
from anomaly_cli.data.mvtec import find_categories, find_mask
from anomaly_cli.data.samples import GOOD

MIN_NORMAL = 3  # `train` refuses fewer
FEW_NORMAL = 20  # of fewer, only one or two (a tenth) are held out to set the threshold
DARK = 64  # of 256 levels; a 14-bit camera in a 16-bit file stays below
_PARTS = ("train", "test", "ground_truth", "Train", "Test")  # of a category, or similar

Places = dict[str, list[Place]]  # by kind of finding


def check_category(facts: CategoryFacts, *, image_size: int) -> list[Finding]:
    """Run all checks on one category and list the findings.

    Args:
        facts: files of the category, and their contents.
        image_size: side of the network's input in pixels.
    """
    found = (
        check_counts(facts)
        | check_layout(facts)
        | check_masks(facts)
        | check_needless_masks(facts)
        | check_sizes(facts, image_size=image_size)
        | check_values(facts)
        | check_equal(facts)
        | check_near(facts)
    )
    category = facts.files.category
    return [Finding(kind, category, tuple(places)) for kind, places in found.items() if places]


def check_root(root: Path) -> list[Finding]:
    """List the folders of a data set that resemble a category but are skipped.

    Such a folder has a subfolder such as `train` or `test`, but no `train/good`. No file is opened.
    """
    likely = {path.parent for name in _PARTS for path in root.glob(f"*/{name}") if path.is_dir()}
    skipped = likely - {root / category for category in find_categories(root)}
    return [Finding("no-category", path.name, (Place((path,)),)) for path in sorted(skipped)]


def check_counts(facts: CategoryFacts) -> Places:
    """Check whether there are enough images to train and to evaluate."""
    files = facts.files
    found: Places = {}
    normal = sum(path in facts.images for path in files.train)
    if normal < FEW_NORMAL:
        kind = "too-few-normal" if normal < MIN_NORMAL else "few-normal"
        place = files.train[0].parent if files.train else files.folder / "train" / GOOD
        found[kind] = [Place((place,), f"{normal} readable")]
    defects = sum(len(paths) for name, paths in files.test.items() if name != GOOD)
    if not any(files.test.values()):
        found["no-test"] = [Place((files.folder / "test",))]
    elif not files.test.get(GOOD):
        found["no-normal-test"] = [Place((files.folder / "test" / GOOD,))]
    elif not defects:
        found["no-defect-test"] = [Place((files.folder / "test",))]
    return found


def check_layout(facts: CategoryFacts) -> Places:
    """List files that cannot be read, and files that no command reads."""
    return {
        "unreadable": [Place((item.path,), item.reason) for item in facts.unreadable],
        "stray": [Place((path,)) for path in facts.files.stray],
        "foreign": [Place((path,)) for path in facts.files.foreign],
    }


def pair_masks(files: CategoryFiles) -> dict[Path, Path | None]:
    """Find the mask of each anomalous test image; None if it is missing."""
    return {
        path: find_mask(path.stem, files.masks.get(defect_type, {}))
        for defect_type, paths in files.test.items()
        if defect_type != GOOD
        for path in paths
    }


def check_masks(facts: CategoryFacts) -> Places:
    """Find masks of anomalous images that are missing, or do not say what is anomalous."""
    found: Places = defaultdict(list)
    pairs = pair_masks(facts.files)
    if pairs and not facts.files.needs_masks:
        return {"no-masks": [Place((facts.files.folder,))]}
    if are_inverted(facts.masks.values()):
        found["mask-inverted"] = [Place((path,)) for path in facts.masks]
    found["mask-twice"] = [Place(pair) for pair in facts.files.same_masks]
    for image, mask in pairs.items():
        if mask is None:
            expected = f"ground_truth/{image.parent.name}/{image.stem}_mask.png"
            found["mask-missing"].append(Place((image,), f"expected {expected}"))
        elif mask in facts.masks:
            for kind, detail in _mask_faults(facts, image, mask):
                found[kind].append(Place((mask,), detail))
    return found


def check_needless_masks(facts: CategoryFacts) -> Places:
    """Find masks of normal images, and masks that belong to no image."""
    used = {*pair_masks(facts.files).values(), *facts.files.masks.get(GOOD, {}).values()}
    orphans = sorted(path for path in facts.files.all_masks if path not in used)
    found: Places = defaultdict(list, {"mask-orphan": [Place((path,)) for path in orphans]})
    for path in facts.files.masks.get(GOOD, {}).values():
        if path in facts.masks and facts.masks[path].marked:
            found["mask-of-normal"].append(Place((path,), f"{facts.masks[path].marked} pixels"))
        elif path in facts.masks:
            found["mask-needless"].append(Place((path,)))
    return found


def _mask_faults(facts: CategoryFacts, image_path: Path, mask_path: Path) -> list[tuple[str, str]]:
    """List the kinds of findings of one readable mask, with details."""
    mask = facts.masks[mask_path]
    faults = [(kind, "") for kind in mask_faults(mask)]
    image = facts.images.get(image_path)
    if image and (image.width, image.height) != (mask.width, mask.height):
        sizes = (mask.width, mask.height), (image.width, image.height)
        faults.append(("mask-size", f"{_size(sizes[0])}, image {_size(sizes[1])}"))
    return faults


def mask_faults(mask: MaskFacts) -> list[str]:
    """List the kinds of findings that a mask alone shows."""
    faults = {
        "mask-empty": mask.marked == 0,
        "mask-full": mask.marked == mask.width * mask.height,
        "mask-lossy": mask.is_lossy,
        "mask-grey": mask.levels > 2 and not mask.is_lossy,
    }
    return [kind for kind, is_found in faults.items() if is_found]


def are_inverted(masks: Iterable[MaskFacts]) -> bool:
    """Check whether most masks mark most of their image: then black is probably the defect."""
    shares = [mask.marked / (mask.width * mask.height) for mask in masks]
    return sum(share > 0.5 for share in shares) > len(shares) / 2


def check_sizes(facts: CategoryFacts, *, image_size: int) -> Places:
    """Find images of an uncommon size, and images smaller than the network's input."""
    sizes = {path: (image.width, image.height) for path, image in facts.images.items()}
    small = sorted((min(size), path) for path, size in sizes.items() if min(size) < image_size)
    details = {path: f"{_size(sizes[path])}, network {image_size}" for _, path in small}
    return {
        "mixed-size": _minority({path: _size(size) for path, size in sizes.items()}),
        "small": [Place((path,), detail) for path, detail in details.items()],
    }


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def check_values(facts: CategoryFacts) -> Places:
    """Find blank images, 16-bit images, and mixtures of bit depths or of grey and colour."""
    images = list(facts.images.values())
    pictures = _pictures(facts, facts.images)
    blank = [image for image in images if image.darkest == image.brightest]
    deep = [image for image in images if image.is_deep]
    dark = [image for image in deep if image.brightest < DARK]
    return {
        "blank": [Place((i.path,), f"{i.brightest} of 255") for i in blank],
        "dark-deep": [Place((i.path,), f"up to {i.brightest / 255:.1%} of it") for i in dark],
        "deep": [Place((i.path,)) for i in deep if len(deep) == len(images)],
        "pages": [Place((i.path,), f"{i.pages} of them") for i in images if i.pages > 1],
        "mixed-depth": _minority({i.path: "16 bits" if i.is_deep else "8 bits" for i in images}),
        "mixed-colour": _minority({i.path: "grey" if i.is_grey else "colour" for i in pictures}),
    }


def _minority(values: Mapping[Path, str]) -> list[Place]:
    """List the images whose value is not the most common one."""
    usual = "".join(value for value, _ in Counter(values.values()).most_common(1))
    odd = {path: value for path, value in values.items() if value != usual}
    return [Place((path,), f"{value}, most common is {usual}") for path, value in odd.items()]


def check_equal(facts: CategoryFacts) -> Places:
    """Find images whose pixels are all equal, across splits and within one."""
    found: Places = defaultdict(list)
    is_trained = set(facts.files.train)
    for group in group_equal(_pictures(facts, facts.files.images)):
        train = [image.path for image in group if image.path in is_trained]
        test = [image.path for image in group if image.path not in is_trained]
        normal = [path for path in test if path.parent.name == GOOD]
        anomalous = [path for path in test if path.parent.name != GOOD]
        found["leak"] += [Place((train[0], path)) for path in test if train]
        found["contradiction"] += [Place((normal[0], path)) for path in anomalous if normal]
        for members in (train, normal, anomalous):
            found["duplicate"] += [Place((members[0], path)) for path in members[1:]]
    return found


def check_near(facts: CategoryFacts) -> Places:
    """Find near duplicates, across splits and within one."""
    usual = usual_distance(describe(_pictures(facts, facts.files.images)).thumbnails)
    train = describe(_pictures(facts, facts.files.train))
    test = describe(_pictures(facts, facts.files.images[len(facts.files.train) :]))
    within = near_copies(train, usual=usual) + near_copies(test, usual=usual)
    return {
        "near-leak": _pair_places(near_copies(test, train, usual=usual)),
        "near-duplicate": _pair_places(within),
    }


def _pictures(facts: CategoryFacts, paths: Iterable[Path]) -> list[ImageFacts]:
    """List the readable images, without blank ones, which would all be copies of each other."""
    found = [facts.images[path] for path in paths if path in facts.images]
    return [image for image in found if image.darkest < image.brightest]


def _pair_places(pairs: Iterable[Pair]) -> list[Place]:
    return [Place(pair[:2], f"{pair.distance} of {HASH_BITS} bits differ") for pair in pairs]
