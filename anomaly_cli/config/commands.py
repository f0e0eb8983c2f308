"""Settings of the commands, and their defaults, which `cli` reads. Loads no torch."""

from dataclasses import dataclass, field
from pathlib import Path

from anomaly_cli.config.names import (
    EXPORT_SUFFIXES,
    ONNX_SUFFIX,
    Counting,
    DatasetName,
    Engine,
    ExportFormat,
    Layout,
    MapSource,
    MaskResizing,
    Resolution,
    Scores,
)
from anomaly_cli.config.values import FORMATS, MAXIMUM, ImageScore, Shard, ThresholdRule
from anomaly_cli.errors import require
from anomaly_cli.files.address import is_address
from models.config import Attention, Layer


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """Settings of the anomaly map of a trained model; None stands for the model's own setting."""

    source: MapSource | None = None
    attention: Attention | None = None
    layer: Layer | None = None
    scores: Scores | None = None
    threshold: ThresholdRule | float | None = None
    outline: float | None = None  # map value at which regions end; NaN: at the threshold
    batch_size: int = 16
    workers: int = 2  # threads that decode, and as many that write
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(self.batch_size >= 1, f"--batch-size must be at least 1, got {self.batch_size}")
        require(self.workers >= 1, f"--workers must be at least 1, got {self.workers}")


@dataclass(frozen=True, kw_only=True)
class LocalizeConfig:
    """Settings of `localize`."""

    model: Path
    images: tuple[str, ...]
    dataset: DatasetName | None = None  # if set, `images` is its root: its test images are used
    output: Path = Path("results")
    map: MapConfig = field(default_factory=MapConfig)
    maps: bool = True
    heatmaps: bool = True
    overlays: bool = True
    masks: bool = True
    latents: str | None = None  # also map these latents: all, top:K or numbers
    layout: Layout = "mirror"  # mvtec: maps as MVTec's evaluation script reads them
    shard: Shard | None = None  # one part of the images; None: all
    resume: bool = False  # go on after the last line of the manifest
    overwrite: bool = False
    engine: Engine | None = None  # None: onnxruntime for a file .onnx, torch for others

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(
            not (self.resume and self.overwrite), "--resume and --overwrite contradict each other"
        )
        is_onnx = self.model.suffix == ONNX_SUFFIX
        require(
            self.engine is None or (self.engine == "onnxruntime") == is_onnx,
            f"--engine onnxruntime reads what export wrote (*{ONNX_SUFFIX}), and torch reads what "
            f"train wrote; got {self.model}",
        )
        require(
            self.latents is None or not is_onnx,
            "--latents needs the model that train wrote: an exported one has no latents",
        )

    @property
    def is_in_bucket(self) -> bool:
        """Whether the images are read from a bucket, each when it is its turn."""
        return self.dataset is None and any(map(is_address, self.images))

    @property
    def is_exported(self) -> bool:
        """Whether the model is one that `export` wrote."""
        return self.model.suffix == ONNX_SUFFIX


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Settings of `export`."""

    model: Path
    format: ExportFormat = "onnx"
    output: Path | None = None  # None: beside the model, with the suffix of the format
    check: Path | None = None  # folder of images that the file is checked on; None: drawn ones
    map: MapConfig = field(default_factory=MapConfig)
    overwrite: bool = False

    @property
    def place(self) -> Path:
        """File to write."""
        folder = self.model if self.model.is_dir() else self.model.parent
        return self.output or folder / f"model{EXPORT_SUFFIXES[self.format]}"


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Settings of `explain`."""

    model: Path
    images: tuple[str, ...]
    output: Path = Path("results")
    latents: str = "top:6"  # all, top:K (over all images) or numbers
    rows: int = 8  # images in the picture
    map: MapConfig = field(default_factory=MapConfig)
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(self.rows >= 1, f"--rows must be at least 1, got {self.rows}")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Settings of `evaluate`."""

    model: Path | None = None  # one model, instead of all of `runs`
    runs: Path = Path("runs")
    dataset: DatasetName = "mvtec"
    data: Path = Path("data/mvtec")
    category: str = "all"
    output: Path = Path("results")
    map: MapConfig = field(default_factory=MapConfig)
    maps: Path | None = None  # saved maps, instead of models
    formats: tuple[str, ...] = FORMATS
    image_score: ImageScore = MAXIMUM
    good: bool = True  # whether normal images of the test split take part
    limit: int | None = None  # test images of a defect type at most, evenly spread; None: all
    resolution: Resolution | None = None  # None: the network's, or that of the saved maps
    mask_resizing: MaskResizing = "nearest"  # area: each region keeps its share of the image
    counting: Counting = "exact"  # streaming: constant memory, and a bound for each pixel metric
    replicates: int = 1000  # draws of the images behind the intervals; 0 for none
    gallery: int = 3  # worst misses, and as many false alarms, of each category
    seed: int = 0  # of the draws
    fail_under: tuple[str, ...] = ()  # least values of metrics, see `evaluation.gates`
    baselines: bool = False  # whether to write the baselines' metrics beside those of the map
    baseline: Path | None = None  # an older report.json
    compare: tuple[Path, Path] | None = None  # two reports, instead of models
    max_drop: float = 0.01  # largest drop of a metric below the baseline
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(
            not (self.baselines and self.maps),
            "--baselines needs a model: it is not supported with --maps",
        )
        require(
            self.compare is None or not (self.maps or self.model or self.baseline),
            "--compare reads two reports: leave --maps, --model and --baseline out",
        )
        require(self.replicates >= 0, f"--replicates must not be negative, got {self.replicates}")
        require(self.gallery >= 0, f"--gallery must not be negative, got {self.gallery}")
        require(self.seed >= 0, f"--seed must not be negative, got {self.seed}")
        require(0 <= self.max_drop <= 1, f"--max-drop must be in [0, 1], got {self.max_drop}")
