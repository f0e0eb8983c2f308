"""What is known of a trained network before its maps are calibrated."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from anomaly_cli.detector.mapper import AnomalyMapper
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.normal.statistics import NormalStatistics


class Described(NamedTuple):
    """What a method knows of normal images, and the maps that are to be calibrated."""

    mapper: AnomalyMapper  # of the trained network
    specs: tuple[MapSpec, ...]  # maps to calibrate; the first is the model's own
    statistics: NormalStatistics | None = None  # of a VAE
    latent_kinds: tuple[str, ...] = ()  # kind of synthetic defect that each latent responds to most
    training: Mapping[str, Any] = {}  # plain JSON values for `ModelRecord.training`
    data: Mapping[str, Any] = {}  # plain JSON values for `ModelRecord.data`
