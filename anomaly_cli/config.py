"""Settings of the commands: each default lives here once, and `cli` reads it. Loads no torch."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from anomaly_cli.defaults import DatasetName, Guidance, TrainDefaults
from anomaly_cli.errors import require
from models.config import Attention, Freeze, Layer, OneClassConfig, VAEConfig

MODEL_FILE = "model.safetensors"
STATE_FILE = "training_state.pt"
MANIFEST_FILE = "manifest.jsonl"
DATA_VARIABLE = "ANOMALY_CLI_DATA"

MapSource = Literal[
    "attention", "appearance", "context", "reconstruction", "ssim", "centre_prior", "fused"
]
Scores = Literal["raw", "global", "position"]
Layout = Literal["mirror", "mvtec"]
Resolution = Literal["network", "original"]  # at which maps and masks are compared
Counting = Literal["exact", "streaming"]  # of pixels
APPEARANCE = "appearance"  # how unusual brightness, contrast, edges and colour are
CONTEXT = "context"  # how badly brightness, contrast, edges and colour fit the rest of the image
RECONSTRUCTION = "reconstruction"  # the map |x - x^|, beside those of attention
SSIM = "ssim"  # 1 - structural similarity of x and x^
CENTRE_PRIOR = "centre_prior"  # a Gaussian in the middle: what can be had without looking
BASELINES = (APPEARANCE, CONTEXT, RECONSTRUCTION, SSIM, CENTRE_PRIOR)
FUSED = "fused"  # attention, appearance, context and error, in standard deviations of normal images


LOOKS = 20  # at the held-out images in a guided training; one takes an eighth of an epoch's time

_PLAIN = TrainDefaults()


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of `train`."""

    dataset: DatasetName = "mvtec"
    data: Path = Path("data/mvtec")
    category: str = "all"
    output: Path = Path("runs")
    model: OneClassConfig = field(default_factory=lambda: VAEConfig(neck="fpn"))
    guidance: Guidance = "synthetic"  # synthetic: attention learns from drawn defects; none: paper
    guidance_ratio: float = 3.0  # gradient of the guidance over that of the VAE's loss
    weights: str = "none"  # of the encoder: none, imagenet, or a file
    freeze: Freeze = "none"  # the stage up to which these weights stay as they are
    augmentation: str = _PLAIN.augmentation  # see `data.augmentation.select_augmentation`
    epochs: int = _PLAIN.epochs
    images_seen: int = _PLAIN.images_seen  # epochs are added until so many were seen
    half_size: float = _PLAIN.half_size  # share of the epochs, the first, at half the image size
    batch_size: int = _PLAIN.batch_size
    learning_rate: float = _PLAIN.learning_rate  # peak of the one-cycle schedule
    gradient_clip: float = 1.0  # of the norm of the loss per pixel value; 0.05 to 0.3 is usual
    held_out: float = _PLAIN.held_out  # share of the normal images that select and calibrate
    attention: Attention | None = None  # None: the best on synthetic defects, see `selection`
    layer: Layer | None = None  # None: the last one of the encoder
    limit: int | None = None  # normal images at most, evenly spread; None: all
    scores: Scores = "raw"
    threshold: str = "image-fpr=0.05"  # rule, see `calibration.ThresholdRule`
    seed: int = 0
    workers: int | None = None  # processes that read images; None: 0 on CPU, 4 on a GPU
    device: str = "auto"
    amp: bool | None = None  # bfloat16 autocast; None: with guidance, where it is faster
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(self.epochs >= 1, f"--epochs must be at least 1, got {self.epochs}")
        require(self.images_seen >= 0, f"--images-seen must be >= 0, got {self.images_seen}")
        require(self.batch_size >= 2, f"--batch-size must be at least 2, got {self.batch_size}")
        require(0 <= self.half_size < 1, f"--half-size must be in [0, 1), got {self.half_size}")
        fits = self.half_size == 0 or self.model.can_halve
        require(fits, "--half-size needs --head gap and an --image-size that is a multiple of 64")
        if isinstance(self.model, VAEConfig) and self.half_size:  # the size that it learns for long
            object.__setattr__(self, "model", replace(self.model, rebuilds_half=True))
        require(self.guidance_ratio > 0, f"--guidance-ratio must be > 0, got {self.guidance_ratio}")
        require(
            self.guidance == "none" or self.model.is_pooled,
            "--guidance synthetic needs --head gap: it trains the parts of a global average",
        )
        require(
            self.freeze == "none" or self.weights != "none",
            f"--freeze {self.freeze} needs --weights: random weights would stay random",
        )
        require(self.learning_rate > 0, f"--learning-rate must be > 0, got {self.learning_rate}")
        require(0 < self.held_out < 1, f"--held-out must be in (0, 1), got {self.held_out}")
        require(self.seed >= 0, f"--seed must not be negative, got {self.seed}")
        require(self.workers is None or self.workers >= 0, "--workers must not be negative")
        require(
            not (self.resume and self.overwrite), "--resume and --overwrite contradict each other"
        )

    def epochs_for(self, images: int) -> int:
        """Epochs of a training on so many images."""
        return max(self.epochs, -(-self.images_seen // images))

    @property
    def half_epochs(self) -> int:
        """Epochs at half the image size, at least one fewer than all."""
        return min(round(self.half_size * self.epochs), self.epochs - 1)

    @property
    def epochs_per_look(self) -> int:
        """Epochs from one look at the held-out images to the next, of which the last is one.

        The paper's training selects among all of its epochs. A guided one is best near its end,
        where the learning rate is next to nothing and neighbours are alike.
        """
        return -(-self.epochs // LOOKS) if self.guidance == "synthetic" else 1


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """Which anomaly map a trained model draws; None means what the model was calibrated for."""

    source: MapSource | None = None
    attention: Attention | None = None
    layer: Layer | None = None
    scores: Scores | None = None
    threshold: str | None = None  # a number or a rule
    outline: str | None = None  # a number, or "threshold"
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
    dataset: DatasetName | None = None  # then `images` is its root, and its test images are meant
    output: Path = Path("results")
    map: MapConfig = field(default_factory=MapConfig)
    maps: bool = True
    heatmaps: bool = True
    overlays: bool = True
    masks: bool = True
    latents: str | None = None  # all, top:K or numbers: also shows the map of each of them
    layout: Layout = "mirror"  # mvtec: maps as MVTec's evaluation script reads them
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Settings of `explain`."""

    model: Path
    images: tuple[str, ...]
    output: Path = Path("results")
    latents: str = "top:6"  # all, top:K (over all images) or numbers
    rows: int = 8  # images that are drawn
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
    formats: str = "json,csv,markdown,junit,html"
    image_score: str = "max"  # or top:SHARE, the mean of the highest values of the map
    good: bool = True  # whether normal images of the test split take part
    limit: int | None = None  # test images of a defect type at most, evenly spread; None: all
    resolution: Resolution | None = None  # None: the network's, or that of the saved maps
    counting: Counting = "exact"  # streaming: constant memory, and a bound for each pixel metric
    replicates: int = 1000  # draws of the images behind the intervals; 0 for none
    gallery: int = 3  # worst misses, and as many false alarms, of each category
    seed: int = 0  # of the draws
    fail_under: tuple[str, ...] = ()  # bars, see `reports.gates`
    baselines: bool = False  # whether to write the baselines' metrics beside those of the map
    baseline: Path | None = None  # an older report.json
    max_drop: float = 0.01  # below the baseline
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(
            not (self.baselines and self.maps),
            "--baselines are maps of a model, and --maps has none: score their saved maps as well",
        )
        require(self.replicates >= 0, f"--replicates must be >= 0, got {self.replicates}")
        require(self.gallery >= 0, f"--gallery must be >= 0, got {self.gallery}")
        require(self.seed >= 0, f"--seed must not be negative, got {self.seed}")
        require(0 <= self.max_drop <= 1, f"--max-drop must be in [0, 1], got {self.max_drop}")
