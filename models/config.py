"""Settings of networks and objectives. Loads no torch, so the command line can read defaults."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal, get_args

Layer = Literal[
    "layer1",
    "layer2",
    "layer3",
    "layer4",
    "stride4",
    "stride8",
    "stride16",
    "neck",
    "conv1",
    "conv2",
    "conv3",
    "conv4",
]
STAGES: tuple[Layer, ...] = ("layer1", "layer2", "layer3", "layer4")  # strides 4, 8, 16, 32
LITE_STAGES: tuple[Layer, ...] = ("stride4", "stride8", "stride16")
CONVS: tuple[Layer, ...] = ("conv1", "conv2", "conv3", "conv4")  # strides 2, 4, 8, 16
Head = Literal["gap", "flatten"]
Neck = Literal["none", "fpn"]
# Up to and including this stage.
Freeze = Literal["none", "stem", "layer1", "layer2", "layer3", "layer4"]
EncoderName = Literal["resnet18", "efficientnet-lite0"]  # the latter is frozen
Reconstruction = Literal["bce", "mse"]
Features = Literal["none", "efficientnet-lite0"]  # of a frozen encoder, learned on ImageNet
GradNorm = Literal["none", "sample", "batch"]
MethodName = Literal["vae", "ae-l2", "ae-ssim", "anogan", "feature-dictionary"]
COMPARED: tuple[MethodName, ...] = ("ae-l2", "ae-ssim", "anogan", "feature-dictionary")
RebuildingLoss = Literal["l2", "ssim"]


class Attention(StrEnum):
    """Definition of the anomaly map by gradients of latents; formulas are in `models.attention`."""

    GRADCAM = "gradcam"
    PAPER = "paper"
    OFFICIAL = "official"
    DIFF_SAMPLE = "diff_sample"
    DIFF_MAHAL = "diff_mahal"
    HIRES = "hires"
    LAYERCAM = "layercam"
    EXACT = "exact"
    EXACT_POSITION = "exact_position"
    EXACT_COVARIANCE = "exact_covariance"


# These need a posterior that is an affine function of the pooled activation.
EXACT = frozenset(
    {
        Attention.EXACT,
        Attention.EXACT_POSITION,
        Attention.EXACT_COVARIANCE,
    }
)
SUMMED = frozenset({Attention.OFFICIAL, Attention.DIFF_SAMPLE})  # have no map for each latent

MAX_COVARIANCE = 2**24  # numbers that `exact_covariance` keeps at most: 64 MiB in the model file


def keeps_covariance(latents: int, positions: int) -> bool:
    """Return whether the covariances of latents at all positions are small enough to be stored."""
    return latents**2 * positions <= MAX_COVARIANCE


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value}")


def _check_image_size(pixels: int) -> None:
    if pixels < 32 or pixels % 32:
        raise ValueError(f"image_size must be a multiple of 32, got {pixels}")


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _check_not_negative(name: str, value: float) -> None:
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Shape and objective of a VAE of photographs.

    Raises:
        ValueError: a value is out of range.
    """

    method: ClassVar[MethodName] = "vae"

    image_size: int = 256  # pixels, square; a multiple of 32
    encoder: EncoderName = "resnet18"
    latent_dim: int = 32
    head: Head = "gap"  # between the last activation and the posterior: average or flatten
    neck: Neck = "none"  # fpn: the stages are fused top-down into one activation
    neck_stride: int = 4  # of the fused activation, in pixels: 4 or 8
    neck_channels: int = 128
    reconstruction: Reconstruction = "bce"
    beta: float = 1.0  # weight of the KL term; 1 is the paper's
    features: Features = "none"  # frozen encoder of the memory; it has no part in the VAE
    rebuilds_half: bool = False  # the decoder reconstructs images at half their side

    def __post_init__(self) -> None:
        """Refuse values that are out of range or contradict each other."""
        _check_image_size(self.image_size)
        _check_positive("latent_dim", self.latent_dim)
        _check_not_negative("beta", self.beta)
        _check_choice("encoder", self.encoder, get_args(EncoderName))
        _check_choice("head", self.head, get_args(Head))
        _check_choice("neck", self.neck, get_args(Neck))
        _check_choice("reconstruction", self.reconstruction, get_args(Reconstruction))
        _check_choice("features", self.features, get_args(Features))
        if self.neck_stride not in {4, 8}:
            raise ValueError(f"neck_stride must be 4 or 8, got {self.neck_stride}")
        _check_positive("neck_channels", self.neck_channels)
        if self.head == "flatten" and (self.neck == "fpn" or self.has_frozen_encoder):
            raise ValueError(
                "head must be gap with a neck or a frozen encoder: their activation is averaged"
            )
        if self.rebuilds_half and not self.can_halve:
            raise ValueError(
                "rebuilds_half needs head gap and an image_size that is a multiple of 64"
            )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Target layers of the encoder, from the first to the last."""
        return self.stages if self.neck == "none" else (*self.stages, "neck")

    @property
    def stages(self) -> tuple[Layer, ...]:
        """Stages of the encoder without the neck, from fine to coarse."""
        return LITE_STAGES if self.has_frozen_encoder else STAGES

    @property
    def latents(self) -> int:
        """Number of latents that have a map of attention each."""
        return self.latent_dim

    @property
    def is_pooled(self) -> bool:
        """Whether the posterior is an affine function of the average of the last activation."""
        return self.head == "gap"

    @property
    def has_covariance(self) -> bool:
        """Whether `exact_covariance` is available at the last layer."""
        grid = self.image_size // self.stride(self.layers[-1])
        return self.is_pooled and keeps_covariance(self.latent_dim, grid**2)

    @property
    def has_frozen_encoder(self) -> bool:
        """Whether the encoder is a pretrained network that is not trained."""
        return self.encoder != "resnet18"

    @property
    def has_memory(self) -> bool:
        """Whether the model keeps a memory of normal patches."""
        return self.features != "none"

    @property
    def can_halve(self) -> bool:
        """Whether the network also takes images of half the side."""
        return self.is_pooled and self.image_size % 64 == 0

    @property
    def rebuilt_size(self) -> int:
        """Side of the images that the decoder reconstructs, in pixels."""
        return self.image_size // 2 if self.rebuilds_half else self.image_size

    def stride(self, layer: str) -> int:
        """Compute the stride of a target layer, in pixels per position."""
        return self.neck_stride if layer == "neck" else 4 * 2 ** list[str](self.stages).index(layer)


@dataclass(frozen=True, kw_only=True)
class ConvVAEConfig:
    """Shape of the plain convolutional VAEs of the paper's small experiments.

    The convolutions are 4 x 4 with stride 2. Their output is flattened into one hidden layer of
    1024 units with ReLU, as in the authors' code for MNIST. The network for UCSD pedestrians has
    three convolutions.

    Raises:
        ValueError: a value is out of range.
    """

    image_size: int = 28  # pixels, square
    image_channels: int = 1
    channels: tuple[int, ...] = (64, 128)  # of each convolution
    hidden: int = 1024
    latent_dim: int = 32

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        if self.image_size >> len(self.channels) < 1:
            raise ValueError(f"image_size {self.image_size} is too small for {self.channels}")
        if len(self.channels) > len(CONVS):
            raise ValueError(f"channels must have at most {len(CONVS)} entries")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Target layers of the encoder, from the first to the last."""
        return CONVS[: len(self.channels)]


@dataclass(frozen=True, kw_only=True)
class OneClassConvConfig(ConvVAEConfig):
    """Shape and objective of a convolutional VAE that learns one kind of normal image.

    Raises:
        ValueError: a value is out of range.
    """

    method: ClassVar[MethodName] = "vae"
    # A hidden layer lies above the last activation, so there is no pooled activation. Its weights
    # fix the size of the images.
    is_pooled: ClassVar[bool] = False
    has_covariance: ClassVar[bool] = False
    has_frozen_encoder: ClassVar[bool] = False
    has_memory: ClassVar[bool] = False
    can_halve: ClassVar[bool] = False

    reconstruction: Reconstruction = "bce"
    beta: float = 1.0  # weight of the KL term; 1 is the paper's

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        super().__post_init__()
        _check_positive("latent_dim", self.latent_dim)
        _check_not_negative("beta", self.beta)
        _check_choice("reconstruction", self.reconstruction, get_args(Reconstruction))

    @property
    def latents(self) -> int:
        """Number of latents that have a map of attention each."""
        return self.latent_dim

    def stride(self, layer: str) -> int:
        """Compute the stride of a target layer, in pixels per position."""
        return 2 << list[str](CONVS).index(layer)


@dataclass(frozen=True, kw_only=True)
class _ComparedConfig:
    """What the methods that the paper compares itself with have in common: no latents to explain.

    Raises:
        ValueError: a value is out of range.
    """

    layers: ClassVar[tuple[Layer, ...]] = ()
    latents: ClassVar[int] = 0
    is_pooled: ClassVar[bool] = False
    has_covariance: ClassVar[bool] = False
    has_memory: ClassVar[bool] = False
    can_halve: ClassVar[bool] = False

    image_size: int = 256  # pixels, square; a multiple of 32

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        _check_image_size(self.image_size)

    def stride(self, layer: str) -> int:
        """Refuse: there are no target layers."""
        raise ValueError(f"no layer {layer}")


@dataclass(frozen=True, kw_only=True)
class _PatchConfig(_ComparedConfig):
    """Networks that see an object as a whole, and a texture in overlapping patches."""

    has_frozen_encoder: ClassVar[bool] = False

    latent_dim: int = 100
    patch_size: int = 0  # pixels a side, a multiple of 32; 0: the image as a whole

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        super().__post_init__()
        _check_positive("latent_dim", self.latent_dim)
        if self.patch_size % 32 or not 0 <= self.patch_size <= self.image_size:
            raise ValueError(
                f"patch_size must be 0, or a multiple of 32 and at most image_size, "
                f"got {self.patch_size}"
            )

    @property
    def input_size(self) -> int:
        """Side of what the network sees at once, in pixels."""
        return self.patch_size or self.image_size


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(_PatchConfig):
    """Shape and loss of the convolutional autoencoders of Bergmann et al. 2018 and 2019.

    Raises:
        ValueError: a value is out of range.
    """

    loss: RebuildingLoss = "l2"

    @property
    def input_size(self) -> int:
        """Side of what the network sees at once, in pixels; larger objects are shrunk to 128."""
        return self.patch_size or min(self.image_size, 128)

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        super().__post_init__()
        _check_choice("loss", self.loss, get_args(RebuildingLoss))

    @property
    def method(self) -> MethodName:
        """Name of the method, after its loss."""
        return "ae-ssim" if self.loss == "ssim" else "ae-l2"


@dataclass(frozen=True, kw_only=True)
class AnoGANConfig(_PatchConfig):
    """Shape of the DCGAN and of the latent search of AnoGAN (Schlegl et al. 2017).

    Raises:
        ValueError: a value is out of range.
    """

    method: ClassVar[MethodName] = "anogan"

    image_size: int = 128  # pixels, square: a power of two unless there are patches
    width: int = 16  # channels of the generator's last hidden layer
    search_steps: int = 100  # of the gradient descent that looks for the latent of an image
    feature_weight: float = 0.1  # lambda: weight of the discriminator's features in the search

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        super().__post_init__()
        if self.input_size.bit_count() != 1:
            raise ValueError(
                f"image_size must be a power of two for anogan, or its patch_size; "
                f"got {self.input_size}"
            )
        _check_positive("width", self.width)
        _check_positive("search_steps", self.search_steps)
        if not 0 <= self.feature_weight <= 1:
            raise ValueError(f"feature_weight must be in [0, 1], got {self.feature_weight}")


@dataclass(frozen=True, kw_only=True)
class DictionaryConfig(_ComparedConfig):
    """Size of the dictionary of normal patch features (Napoletano et al. 2018).

    Raises:
        ValueError: a value is out of range.
    """

    method: ClassVar[MethodName] = "feature-dictionary"

    encoder: EncoderName = "efficientnet-lite0"
    centres: int = 500  # of the k-means clusters
    nearest: int = 5  # centres whose mean distance is the map

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        super().__post_init__()
        _check_choice("encoder", self.encoder, get_args(EncoderName))
        _check_positive("nearest", self.nearest)
        if self.centres < self.nearest:
            raise ValueError(f"centres must be at least nearest, got {self.centres}")

    @property
    def has_frozen_encoder(self) -> bool:
        """Whether the encoder comes with its own weights."""
        return self.encoder != "resnet18"


OneClassVAEConfig = VAEConfig | OneClassConvConfig
ComparedConfig = AutoencoderConfig | AnoGANConfig | DictionaryConfig
OneClassConfig = OneClassVAEConfig | ComparedConfig  # the networks that `train` offers


def vae_config(config: OneClassConfig) -> OneClassVAEConfig:
    """Take settings as those of a VAE.

    Raises:
        TypeError: they are of another method.
    """
    if isinstance(config, OneClassVAEConfig):
        return config
    raise TypeError(f"a VAE expected, got {config.method}")
