"""Kinds of findings in a data set, each with its severity, description and remedy."""

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class Severity(StrEnum):
    """Severity of a finding, worst first."""

    ERROR = "error"  # a command will fail, or a metric will be wrong
    WARNING = "warning"  # commands work, but the data are probably not as intended
    NOTE = "note"  # for information


class Rule(NamedTuple):
    """Kind of finding: its severity, description and remedy."""

    severity: Severity
    what: str
    right: str  # correct state of the data


RULES = {
    "unreadable": Rule(
        Severity.ERROR,
        "file cannot be decoded to its end",
        "a whole file: copy it again from its source, or delete it",
    ),
    "too-few-normal": Rule(
        Severity.ERROR,
        "too few normal images to train at all",
        "3 readable images at the very least; 100 or more learn well",
    ),
    "mask-missing": Rule(
        Severity.ERROR,
        "image with a defect has no mask",
        "a mask of that name, white where the defect is; a normal image belongs to test/good",
    ),
    "mask-empty": Rule(
        Severity.ERROR,
        "mask marks nothing",
        "white pixels on the defect; an image without one belongs to test/good",
    ),
    "mask-size": Rule(
        Severity.ERROR,
        "mask and image differ in size",
        "one mask pixel for each image pixel",
    ),
    "mask-of-normal": Rule(
        Severity.ERROR,
        "mask marks a defect in an image called good",
        "image and mask in the folder of a defect type, or no mask",
    ),
    "leak": Rule(
        Severity.ERROR,
        "test image is also a training image",
        "each image in one split only; else the test is easier than reality",
    ),
    "contradiction": Rule(
        Severity.ERROR,
        "same picture is called good and defective",
        "each image in one folder only",
    ),
    "few-normal": Rule(
        Severity.WARNING,
        "few normal images: one or two of them set the threshold",
        "20 at least, 100 or more learn well",
    ),
    "no-test": Rule(
        Severity.WARNING,
        "no test images: evaluate has nothing to score",
        "normal ones in test/good, defects in test/<defect type>",
    ),
    "no-normal-test": Rule(
        Severity.WARNING,
        "no normal test images: no image AUROC, no false-alarm rate",
        "normal images that train never sees",
    ),
    "no-defect-test": Rule(
        Severity.WARNING,
        "no test images with a defect: no AUROC, no IoU",
        "images in test/<defect type>, masks in ground_truth/<defect type>",
    ),
    "mask-orphan": Rule(
        Severity.WARNING,
        "mask belongs to no image",
        "an image of its name without _mask, in the folder of test with the same defect type",
    ),
    "mask-full": Rule(
        Severity.WARNING,
        "mask marks every pixel",
        "black outside the defect: only 0 is normal, 1 to 255 are all defect",
    ),
    "mask-lossy": Rule(
        Severity.WARNING,
        "mask is in a lossy format: what is brighter than half of its white counts as defect",
        "a lossless format such as PNG",
    ),
    "mask-grey": Rule(
        Severity.WARNING,
        "mask holds several values besides black, which all count as defect",
        "black and one other value; of smoothed edges, what is at least half of white",
    ),
    "mask-inverted": Rule(
        Severity.WARNING,
        "most masks mark most of their image, as if black was the defect",
        "white where the defect is, black elsewhere",
    ),
    "mask-twice": Rule(
        Severity.ERROR,
        "two masks belong to one image",
        "one mask of each image, in one format",
    ),
    "blank": Rule(
        Severity.WARNING,
        "image has the same value everywhere",
        "a picture of the product",
    ),
    "dark-deep": Rule(
        Severity.WARNING,
        "16-bit image uses a small part of its range and looks black",
        "values up to 65535: multiply all images by one factor (16 for a 12-bit camera)",
    ),
    "mixed-depth": Rule(
        Severity.WARNING,
        "image of another bit depth than most",
        "one bit depth for all",
    ),
    "mixed-colour": Rule(
        Severity.WARNING,
        "image is grey where most are in colour, or the reverse",
        "all grey or all in colour: the network takes the rest for anomalous",
    ),
    "mixed-size": Rule(
        Severity.WARNING,
        "image has another size than the most common one",
        "one size: each image is stretched to a square, so shapes and sharpness vary",
    ),
    "small": Rule(
        Severity.WARNING,
        "image is smaller than the network's input and is blown up",
        "larger images, or a smaller --image-size for train",
    ),
    "pages": Rule(
        Severity.WARNING,
        "file has several pages or frames, of which the first is read",
        "one file for each picture",
    ),
    "duplicate": Rule(
        Severity.WARNING,
        "same picture twice in one split, so it counts twice",
        "each picture once",
    ),
    "near-leak": Rule(
        Severity.WARNING,
        "test image looks like a copy of a training image",
        "look at both: parts that were photographed twice belong to one split",
    ),
    "stray": Rule(
        Severity.WARNING,
        "image that no command reads",
        "train/good, test/<defect type> or ground_truth/<defect type>, no folders below",
    ),
    "no-category": Rule(
        Severity.WARNING,
        "folder is skipped: it looks like a category, but has no train/good",
        "normal training images in train/good, spelled so",
    ),
    "near-duplicate": Rule(
        Severity.NOTE,
        "image looks like a copy of another in its split",
        "fine if it shows another part; the same part twice counts twice",
    ),
    "deep": Rule(
        Severity.NOTE,
        "16-bit image; the network sees 8 bits of it",
        "fine where 256 levels show the defects",
    ),
    "no-masks": Rule(
        Severity.NOTE,
        "no masks: evaluate gives image metrics alone",
        "a mask of each image with a defect, where pixel metrics are wanted",
    ),
    "mask-needless": Rule(
        Severity.NOTE,
        "empty mask of a normal image, never read",
        "normal images need no mask",
    ),
    "foreign": Rule(
        Severity.NOTE,
        "file among the images that is not read",
        "PNG, JPEG, TIFF, BMP, WebP, PGM or PPM, if it is meant to be an image",
    ),
}


class Place(NamedTuple):
    """Location of a finding: a file or folder, or two that belong together."""

    paths: tuple[Path, ...]
    detail: str = ""


class Finding(NamedTuple):
    """All findings of one kind in one category."""

    kind: str  # key of RULES
    category: str
    places: tuple[Place, ...]

    @property
    def rule(self) -> Rule:
        """Severity, description and remedy of this kind of finding."""
        return RULES[self.kind]
