"""Settings of `train`, and their defaults, some of which depend on others. Loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from anomaly_cli.config.compared import CONFIGS, DEFAULTS, OF_COMPARED, in_patches
from anomaly_cli.config.names import CHANNELS, DatasetName, Guidance, Scores, Speed
from anomaly_cli.config.presets import read_preset
from anomaly_cli.config.values import DEFAULT_RULE, ThresholdRule
from anomaly_cli.errors import ConfigError, require
from models.config import (
    Attention,
    ComparedConfig,
    EncoderName,
    Freeze,
    Layer,
    MethodName,
    OneClassConfig,
    OneClassConvConfig,
    OneClassVAEConfig,
    VAEConfig,
)

EVALUATIONS = 8  # evaluations of held-out images in a guided training; each maps up to 80
HALF_SAVES = 0.75  # of the cost of an image: at half its side it has a quarter of its pixels
_MOST_EPOCHS = 300  # that `images_seen` adds up to
_MIN_SIZE_TO_HALVE = 192  # pixels: on fewer than 96 pixels little of a product can be seen

# The paper's training: fields of the network and of `TrainConfig` together.
_PAPER: Mapping[str, Any] = {
    "encoder": "resnet18",
    "image_size": 256,
    "neck": "none",
    "neck_stride": 4,
    "reconstruction": "bce",
    "beta": 1.0,
    "features": "none",
    "batch_size": 16,
    "epochs": 60,
    "images_seen": 0,
    "half_size": 0.0,
    "learning_rate": 1e-3,
    "augmentation": "auto",
    "held_out": 0.1,
}
# Training with synthetic defects: the values that were better in docs/accuracy.md.
_GUIDED: Mapping[str, Any] = {
    **_PAPER,
    "encoder": "efficientnet-lite0",  # docs/decisions/0021
    "features": "efficientnet-lite0",
    "image_size": 320,
    "neck": "fpn",
    "neck_stride": 8,
    "reconstruction": "mse",
    "beta": 0.05,
    "batch_size": 8,
    "epochs": 5,
    "images_seen": 6000,  # 60 images need as many steps as 300 to learn what a defect is
    "half_size": 0.0,
    "learning_rate": 2e-3,
    "augmentation": "in-place",
    "held_out": 0.15,  # docs/decisions/0013
}
# An encoder that is trained as well costs more, which images of half the side save.
_FROM_SCRATCH: Mapping[str, Any] = {"images_seen": 4000, "half_size": 0.75}
_SPEEDS: Mapping[tuple[str, Speed], Mapping[str, Any]] = {  # by encoder
    ("resnet18", "fast"): {"image_size": 256, "images_seen": 1500, "half_size": 0.9},
    ("resnet18", "thorough"): {"image_size": 384, "images_seen": 16_000},
    ("efficientnet-lite0", "fast"): {"image_size": 256, "images_seen": 1500},
    ("efficientnet-lite0", "thorough"): {"image_size": 384, "images_seen": 12_000},
}
_WHOLE: Freeze = "layer4"  # stages of ResNet18 that stay as they are if they are not trained
_FAST_PAPER: Mapping[str, Any] = {"image_size": 128, "epochs": 40}
# Fields of `TrainConfig` that mean nothing to a method without a posterior.
_OF_VAE = frozenset(
    {"model", "guidance", "guidance_ratio", "half_size", "freeze", "attention", "layer", "amp"}
)

Model = TypeVar("Model", VAEConfig, OneClassConvConfig, ComparedConfig)


def default_options(
    guidance: Guidance,
    *,
    speed: Speed = "default",
    encoder: EncoderName | None = None,
    dataset: DatasetName = "mvtec",
) -> dict[str, Any]:
    """List the defaults of `train` that depend on other options.

    Args:
        guidance: whether attention learns from synthetic defects.
        speed: `fast` takes smaller images and fewer epochs, `thorough` larger and more.
        encoder: None is the default one.
        dataset: data sets with a network of their own (`CHANNELS`) take the values of their
            preset, which are those of the paper's experiment; `speed` changes nothing there.

    Returns:
        Values by name of the field, of the network or of `TrainConfig`.
    """
    if dataset in CHANNELS:
        preset = _preset_options(dataset)
        return {**_PAPER, **{name: preset[name] for name in _PAPER if name in preset}}
    if guidance == "none":
        chosen = {} if encoder is None else {"encoder": encoder}
        return {**_PAPER, **chosen, **(_FAST_PAPER if speed == "fast" else {})}
    name: str = encoder or _GUIDED["encoder"]
    own = _FROM_SCRATCH if name == "resnet18" else {}
    return {**_GUIDED, **own, **_SPEEDS.get((name, speed), {}), "encoder": name}


def _preset_options(dataset: DatasetName) -> dict[str, Any]:
    """Read the options of the paper's experiment on a data set; empty if there is none."""
    if dataset not in CHANNELS:
        return {}
    return {name.replace("-", "_"): value for name, value in read_preset(dataset).items()}


def _default_model() -> VAEConfig:
    return VAEConfig(**{name: _GUIDED[name] for name in _fields_of(VAEConfig) & _GUIDED.keys()})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of `train`; `TrainConfig()` has those of the command without options.

    `TrainConfig.resolve` fills in what depends on data set, guidance and speed.

    Raises:
        ConfigError: a value is out of range, or two contradict each other.
    """

    dataset: DatasetName = "mvtec"
    data: Path = Path("data/mvtec")
    category: str = "all"
    output: Path = Path("runs")
    model: OneClassConfig = field(default_factory=_default_model)
    guidance: Guidance = "synthetic"  # synthetic: attention learns from defects; none: as the paper
    guidance_ratio: float = 3.0  # gradient of the guidance over that of the VAE's loss
    weights: str = "none"  # of the encoder: none, imagenet, or a file
    freeze: Freeze = "none"  # stage up to which these weights stay as they are
    augmentation: str = _GUIDED["augmentation"]  # see `training.augmentation.select_augmentation`
    epochs: int = _GUIDED["epochs"]
    images_seen: int = _GUIDED["images_seen"]  # epochs are added until this many were seen
    half_size: float = _GUIDED["half_size"]  # share of epochs, the first ones, at half the side
    batch_size: int = _GUIDED["batch_size"]
    learning_rate: float = _GUIDED["learning_rate"]  # peak of the one-cycle schedule
    gradient_clip: float = 1.0  # of the norm of the loss per pixel value; 0.05 to 0.3 is usual
    held_out: float = _GUIDED["held_out"]  # share of the normal images that select and calibrate
    attention: Attention | None = None  # None: the best on synthetic defects
    layer: Layer | None = None  # None: the last one of the encoder
    limit: int | None = None  # normal images at most, evenly spread; None: all
    scores: Scores = "raw"
    threshold: ThresholdRule = DEFAULT_RULE
    seed: int = 0
    workers: int | None = None  # processes that read images; None: 0 on CPU, 4 on a GPU
    device: str = "auto"
    amp: bool | None = None  # bfloat16 autocast; None: with guidance, where it is faster
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        require(self.epochs >= 1, f"--epochs must be at least 1, got {self.epochs}")
        require(
            self.images_seen >= 0, f"--images-seen must not be negative, got {self.images_seen}"
        )
        require(self.batch_size >= 2, f"--batch-size must be at least 2, got {self.batch_size}")
        require(0 <= self.half_size < 1, f"--half-size must be in [0, 1), got {self.half_size}")
        fits = self.half_size == 0 or self.model.can_halve
        require(fits, "--half-size needs --head gap and an --image-size that is a multiple of 64")
        require(self.guidance_ratio > 0, f"--guidance-ratio must be > 0, got {self.guidance_ratio}")
        require(
            self.guidance == "none" or self.model.is_pooled,
            "--guidance synthetic needs --head gap: it trains the terms of a global average",
        )
        require(
            self.weights == "none" or not self.model.has_frozen_encoder,
            "--weights are those of --encoder resnet18; efficientnet-lite0 has its own",
        )
        require(
            self.freeze == "none" or self.weights != "none",
            f"--freeze {self.freeze} needs --weights: random weights would stay random",
        )
        require(self.learning_rate > 0, f"--learning-rate must be > 0, got {self.learning_rate}")
        require(0 < self.held_out < 1, f"--held-out must be in (0, 1), got {self.held_out}")
        require(
            isinstance(self.threshold, ThresholdRule),
            f"threshold must be a ThresholdRule, got {self.threshold!r}",
        )
        require(self.seed >= 0, f"--seed must not be negative, got {self.seed}")
        require(self.workers is None or self.workers >= 0, "--workers must not be negative")
        require(
            not (self.resume and self.overwrite), "--resume and --overwrite contradict each other"
        )

    @classmethod
    def resolve(
        cls,
        *,
        dataset: DatasetName = "mvtec",
        method: MethodName = "vae",
        guidance: Guidance | None = None,
        fast: bool = False,
        thorough: bool = False,
        **given: Any,
    ) -> "TrainConfig":
        """Make settings of the values that are given, with the other defaults of the command.

        Args:
            dataset: if the paper has an experiment with it, that one decides the defaults.
            method: `vae`, or one of the methods that the paper compares itself with.
            guidance: None is the choice of the paper's experiment, or else `synthetic`.
            fast: `--fast`, smaller images and fewer epochs by default.
            thorough: `--thorough`, larger images and more epochs by default.
            given: fields of this class and of the network's settings, such as `image_size`;
                None stands for a value that is not given.

        Raises:
            ConfigError: a value is out of range, or is not supported with the data set.
            TypeError: no field has such a name.
        """
        if method != "vae":
            given |= {"guidance": guidance, "fast": fast or None, "thorough": thorough or None}
            return cls._resolve_compared(dataset, method, given)
        preset = _preset_options(dataset)
        chosen = guidance or preset.get("guidance", cls.guidance)
        options = {name: value for name, value in given.items() if value is not None}
        for name in options.keys() & OF_COMPARED:
            raise ConfigError(f"--{name.replace('_', '-')} is not an option of vae")
        if "epochs" in options:
            options.setdefault("images_seen", 0)
        if options.get("weights", "none") != "none":
            options = {"encoder": "resnet18", "freeze": _WHOLE} | options
        if "attention" in preset:
            options.setdefault("attention", Attention(preset["attention"]))
        require(not (fast and thorough), "--fast and --thorough contradict each other")
        speed: Speed = "fast" if fast else "thorough" if thorough else "default"
        _refuse_photograph_options(dataset, chosen, speed, options)
        is_half_given = "half_size" in options
        encoder = options.get("encoder")
        options = default_options(chosen, speed=speed, encoder=encoder, dataset=dataset) | options
        model = _take_model(dataset, options)
        if not is_half_given and not _gains_by_half(model):
            options["half_size"] = 0.0
        return cls(dataset=dataset, guidance=chosen, model=model, **options)

    @classmethod
    def _resolve_compared(
        cls, dataset: DatasetName, method: MethodName, given: Mapping[str, Any]
    ) -> "TrainConfig":
        """Make settings of a compared method; options that it does not have are refused."""
        require(dataset not in CHANNELS, f"--method {method} needs photographs, not {dataset}")
        own = _fields_of(CONFIGS[method]) - {"loss"}
        known = own | (_fields_of(TrainConfig) - _OF_VAE)
        known -= (
            {"epochs", "images_seen", "learning_rate", "gradient_clip"}
            if method == "feature-dictionary"
            else {"weights"}
        )
        # What these mean is the same as not to give them.
        defaults = {**_defaults_of(VAEConfig), **_defaults_of(TrainConfig), **DEFAULTS[method]}
        options = dict(DEFAULTS[method])
        for name, value in given.items():
            if name in known and value is not None:
                options[name] = value
            elif value is not None and value != defaults.get(name):
                raise ConfigError(f"--{name.replace('_', '-')} is not an option of {method}")
        if "epochs" in given and given["epochs"] is not None and given.get("images_seen") is None:
            options["images_seen"] = 0
        if method == "feature-dictionary" and options.get("weights", "none") != "none":
            options.setdefault("encoder", "resnet18")
        return cls(dataset=dataset, model=_build(CONFIGS[method], options), **options)

    def options(self) -> dict[str, Any]:
        """List the fields of network and training by name, as the command line has them."""
        own = {name: getattr(self, name) for name in _fields_of(TrainConfig) - {"model"}}
        return {name: getattr(self.model, name) for name in _fields_of(type(self.model))} | own

    @property
    def network(self) -> OneClassConfig:
        """Network to train.

        Autoencoders and AnoGAN see textures in patches. The decoder of a VAE makes images of half
        the side if epochs train on these, or if it would cost more than the frozen encoder.
        """
        model = in_patches(self.model, self.category)
        if (
            isinstance(model, VAEConfig)
            and model.can_halve
            and (self.half_size or model.has_frozen_encoder)
        ):
            return replace(model, rebuilds_half=True)
        return model

    def epochs_for(self, images: int) -> int:
        """Compute the number of epochs of a training on this many images.

        A few images have been seen in every way after `_MOST_EPOCHS`.
        """
        return max(self.epochs, min(-(-self.images_seen // images), _MOST_EPOCHS))

    @property
    def half_epochs(self) -> int:
        """Number of epochs at half the image size, at least one fewer than all."""
        return min(round(self.half_size * self.epochs), self.epochs - 1)

    @property
    def epochs_per_evaluation(self) -> int:
        """Epochs from one evaluation of the held-out images to the next; the last epoch has one.

        The paper's training selects among all of its epochs. A guided training is best near its
        end, where the learning rate is close to 0 and neighbouring epochs are alike.
        """
        return -(-self.epochs // EVALUATIONS) if self.guidance == "synthetic" else 1


def _gains_by_half(model: OneClassConfig) -> bool:
    """Check whether epochs at half the side save time and still show the product well enough."""
    return model.can_halve and model.image_size >= _MIN_SIZE_TO_HALVE


def _refuse_photograph_options(
    dataset: DatasetName, guidance: Guidance, speed: Speed, options: Mapping[str, Any]
) -> None:
    """Refuse options of networks for photographs if the data set has a network of its own."""
    if dataset not in CHANNELS:
        return
    is_given = {
        "encoder": options.get("encoder", VAEConfig.encoder) != VAEConfig.encoder,
        "head": options.get("head", VAEConfig.head) != VAEConfig.head,
        "neck": options.get("neck", "none") != "none",
        "features": options.get("features", "none") != "none",
        speed: speed != "default",
        "guidance": guidance != "none",
    }
    for name, is_set in is_given.items():
        require(not is_set, f"--{name} is not supported with --dataset {dataset}")


def _take_model(dataset: DatasetName, options: dict[str, Any]) -> OneClassVAEConfig:
    """Build the settings of the network from options, and remove these options."""
    model: OneClassVAEConfig
    if dataset in CHANNELS:
        options["channels"] = CHANNELS[dataset]
        model = _build(OneClassConvConfig, options)
    else:
        model = _build(VAEConfig, options)
    for name in _fields_of(VAEConfig):  # refused above unless it is the default
        options.pop(name, None)
    return model


def _build(kind: type[Model], options: dict[str, Any]) -> Model:
    """Build the settings of a network from options, and remove these options."""
    settings = {name: options.pop(name) for name in list(options) if name in _fields_of(kind)}
    try:
        return kind(**settings)
    except ValueError as error:
        raise ConfigError(f"--{str(error).replace('_', '-', 1)}") from error


def _fields_of(kind: Any) -> set[str]:
    return {each.name for each in fields(kind)}


def _defaults_of(kind: Any) -> dict[str, Any]:
    return {each.name: each.default for each in fields(kind)}
