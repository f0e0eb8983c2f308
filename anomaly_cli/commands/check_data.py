"""`check-data`: count the files of a data set and list everything that is wrong with it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anomaly_cli.config.data import CheckDataConfig
from anomaly_cli.data.checks.checks import check_category, check_root
from anomaly_cli.data.checks.findings import Finding, Severity
from anomaly_cli.data.checks.inspection import (
    CategoryFacts,
    CategoryFiles,
    collect,
    inspect_files,
    list_category,
    list_own_images,
)
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.samples import GOOD
from anomaly_cli.progress import SILENT, Progress

SCHEMA_VERSION = 1


class Counts(NamedTuple):
    """Counts of the images of one defect type in one split of one category."""

    category: str
    split: str  # train or test
    defect_type: str
    images: int  # unreadable ones included
    masks: int
    smallest: tuple[int, int] | None  # width and height in pixels; None if no image can be read
    largest: tuple[int, int] | None
    grey: int  # readable images whose channels are all equal
    colour: int


class DataReport(NamedTuple):
    """The result of `check-data`."""

    data: Path
    image_size: int
    counts: tuple[Counts, ...]
    findings: tuple[Finding, ...]  # worst first

    def number_of(self, severity: Severity) -> int:
        """Count the findings of a severity, one for each kind in each category."""
        return sum(finding.rule.severity == severity for finding in self.findings)

    def has_failed(self, *, strict: bool) -> bool:
        """Check whether there are errors, or with `strict` also warnings."""
        return bool(self.number_of(Severity.ERROR) or (strict and self.number_of(Severity.WARNING)))

    def name(self, path: Path) -> str:
        """Format a path relative to the data set; a path outside of it is not changed."""
        root = self.data if self.data.is_dir() else self.data.parent
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def run(config: CheckDataConfig, progress: Progress = SILENT) -> DataReport:
    """Decode every image and mask of the categories once, and collect all problems.

    Raises:
        DataError: there is no such category, folder or list.
    """
    is_own = config.dataset == "folder"
    categories = DATASETS[config.dataset].select_categories(config.data, config.category)
    findings = check_root(config.data) if config.category == "all" and not is_own else []
    counts: list[Counts] = []
    for category in categories:
        own = list_own_images(config.data, category) if is_own else None
        facts = _inspect(own or list_category(config.data / category), config, progress)
        counts += count_images(facts)
        findings += check_category(facts, image_size=config.image_size)
    order = list(Severity)
    findings.sort(key=lambda finding: order.index(finding.rule.severity))
    return DataReport(config.data, config.image_size, tuple(counts), tuple(findings))


def _inspect(files: CategoryFiles, config: CheckDataConfig, progress: Progress) -> CategoryFacts:
    inspected = []
    with progress.bar(f"checking {files.category}", total=files.total) as bar:
        for facts in inspect_files(files, workers=config.workers):
            inspected.append(facts)
            bar.advance()
    return collect(files, inspected)


def count_images(facts: CategoryFacts) -> list[Counts]:
    """Count the training images, and the test images of each defect type, normal ones first."""
    files = facts.files
    defect_types = sorted({*files.test, *files.masks} - {GOOD})
    return [
        _count(facts, "train", GOOD, files.train),
        *(
            _count(facts, "test", defect_type, files.test.get(defect_type, []))
            for defect_type in [GOOD, *defect_types]
        ),
    ]


def _count(facts: CategoryFacts, split: str, defect_type: str, paths: Sequence[Path]) -> Counts:
    images = [facts.images[path] for path in paths if path in facts.images]
    sizes = [(image.width, image.height) for image in images]
    colours = Counter(image.is_grey for image in images)
    return Counts(
        facts.files.category,
        split,
        defect_type,
        images=len(paths),
        masks=len(facts.files.masks.get(defect_type, ())) if split == "test" else 0,
        smallest=_extreme(sizes, min),
        largest=_extreme(sizes, max),
        grey=colours[True],
        colour=colours[False],
    )


def _extreme(sizes: Iterable[tuple[int, int]], choose: Any) -> tuple[int, int] | None:
    size: tuple[int, int] | None = choose(
        sizes, key=lambda size: (size[0] * size[1], size), default=None
    )
    return size


def to_json(report: DataReport) -> dict[str, Any]:
    """Convert the whole report to plain JSON values, with every place of every finding."""
    return {
        "schema_version": SCHEMA_VERSION,
        "data": _text(str(report.data)),
        "image_size": report.image_size,
        **{f"{severity}s": report.number_of(severity) for severity in Severity},
        "counts": [_readable(row._asdict()) for row in report.counts],
        "findings": [
            {
                "severity": finding.rule.severity,
                "kind": finding.kind,
                "category": _text(finding.category),
                "what": finding.rule.what,
                "right": finding.rule.right,
                "count": len(finding.places),
                "places": [
                    {
                        "paths": [_text(report.name(path)) for path in place.paths],
                        "detail": _text(place.detail),
                    }
                    for place in finding.places
                ],
            }
            for finding in report.findings
        ],
    }


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return {key: _text(value) if isinstance(value, str) else value for key, value in row.items()}


def _text(name: str) -> str:
    """Escape the bytes of a file name that are not valid Unicode."""
    return name.encode("utf-8", "backslashreplace").decode()
