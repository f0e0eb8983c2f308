"""The tables that CONTRIBUTING.md sends newcomers to agree with the names that settings take."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from anomaly_cli.config.names import BASELINES, DOWNLOADS, FUSED, MEMORY, DatasetName, MapSource
from anomaly_cli.config.values import FORMATS
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.download.sources import SOURCES
from anomaly_cli.data.samples import MVTEC_CATEGORIES
from anomaly_cli.detector.maps import DEFINITIONS, PARTS
from anomaly_cli.evaluation.metric_names import KEYS, METRICS
from anomaly_cli.evaluation.reports.published import TABLE_2
from anomaly_cli.evaluation.reports.write import FILES
from anomaly_cli.evaluation.results import CategoryMetrics
from anomaly_cli.metrics.detection import ImageMetrics, PixelMetrics
from models.config import COMPARED, Attention

ROOT = Path(__file__).parent.parent


def test_names_of_settings_are_the_keys_of_the_tables() -> None:
    assert set(get_args(DatasetName)) == set(DATASETS)
    assert tuple(SOURCES) == DOWNLOADS
    assert tuple(FILES) == FORMATS
    assert tuple(TABLE_2) == MVTEC_CATEGORIES
    assert set(get_args(MapSource)) == {"attention", *BASELINES, MEMORY, FUSED}


def test_every_map_has_a_row() -> None:
    fused = {source for source, row in DEFINITIONS.items() if row.is_fused}
    known = {*(a.value for a in Attention), *BASELINES, MEMORY, *fused, *COMPARED}
    assert set(DEFINITIONS) == known
    for source in fused:
        assert set(DEFINITIONS[source].parts) <= set(PARTS)


def test_every_metric_is_computed_and_reported() -> None:
    assert set(KEYS) <= {field.name for field in fields(CategoryMetrics)}
    for metric in METRICS:
        if metric.level == "pixels":
            assert metric.source in PixelMetrics._fields
        if metric.level == "images":
            assert metric.source in ImageMetrics._fields


def test_contributing_names_what_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = {path.name for path in (ROOT / "anomaly_cli").iterdir() if path.is_dir()}
    for room in rooms - {"__pycache__"}:
        assert f"`{room}/`" in text, room
    for name in set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text)):
        assert (ROOT / name).exists() or (ROOT / "anomaly_cli" / name).exists(), name
