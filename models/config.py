"""Shapes of the networks. Loads no torch, so that the command line can read the defaults."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal, get_args

Layer = Literal["layer1", "layer2", "layer3", "layer4", "neck", "conv1", "conv2", "conv3", "conv4"]
STAGES: tuple[Layer, ...] = ("layer1", "layer2", "layer3", "layer4")  # strides 4, 8, 16, 32
CONVS: tuple[Layer, ...] = ("conv1", "conv2", "conv3", "conv4")  # strides 2, 4, 8, 16
Head = Literal["gap", "flatten"]
Neck = Literal["none", "fpn"]
Freeze = Literal["none", "stem", "layer1", "layer2", "layer3"]  # up to and with this stage
Reconstruction = Literal["bce", "mse"]
GradNorm = Literal["none", "sample", "batch"]


class Attention(StrEnum):
    """How gradients of latents become an anomaly map; `models.attention` has the formulas."""

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
    EXACT_SCALES = "exact_scales"


# These need a pooled activation.
EXACT = frozenset(
    {
        Attention.EXACT,
        Attention.EXACT_POSITION,
        Attention.EXACT_COVARIANCE,
        Attention.EXACT_SCALES,
    }
)
SUMMED = frozenset({Attention.OFFICIAL, Attention.DIFF_SAMPLE})  # have no map for each latent

MAX_COVARIANCE = 2**24  # numbers that `exact_covariance` keeps at most: 64 MiB in the model file


def keeps_covariance(latents: int, positions: int) -> bool:
    """Whether a covariance of the latents at every position is of a size worth keeping."""
    return latents**2 * positions <= MAX_COVARIANCE


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value}")


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Shape and objective of the ResNet18 VAE.

    Raises:
        ValueError: a value is out of range.
    """

    image_size: int = 256  # pixels, square; a multiple of 32
    latent_dim: int = 32
    head: Head = "gap"  # what lies between the last activation and the posterior
    neck: Neck = "none"  # fpn: the stages are fused top-down into one activation
    neck_stride: int = 4  # of the fused activation: 4 or 8
    neck_channels: int = 128
    reconstruction: Reconstruction = "bce"
    beta: float = 1.0  # weight of the KL term; 1 is the paper's
    rebuilds_half: bool = False  # the decoder draws images of half the side

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        if self.image_size < 32 or self.image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, got {self.image_size}")
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim must be at least 1, got {self.latent_dim}")
        if self.beta < 0:
            raise ValueError(f"beta must not be negative, got {self.beta}")
        _check_choice("head", self.head, get_args(Head))
        _check_choice("neck", self.neck, get_args(Neck))
        _check_choice("reconstruction", self.reconstruction, get_args(Reconstruction))
        if self.neck_stride not in {4, 8}:
            raise ValueError(f"neck_stride must be 4 or 8, got {self.neck_stride}")
        if self.neck_channels < 1:
            raise ValueError(f"neck_channels must be at least 1, got {self.neck_channels}")
        if self.neck == "fpn" and self.head == "flatten":
            raise ValueError("head must be gap with a neck: the fused activation is averaged")
        if self.rebuilds_half and not self.can_halve:
            raise ValueError("rebuilds_half needs head gap and an image_size that 64 divides")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Target layers that the encoder hands out, the last one last."""
        return STAGES if self.neck == "none" else (*STAGES, "neck")

    @property
    def is_pooled(self) -> bool:
        """Whether the posterior is an affine function of the average of the last activation."""
        return self.head == "gap"

    @property
    def has_covariance(self) -> bool:
        """Whether `exact_covariance` exists at the last layer."""
        grid = self.image_size // self.stride(self.layers[-1])
        return self.is_pooled and keeps_covariance(self.latent_dim, grid**2)

    @property
    def has_scales(self) -> bool:
        """Whether `exact_scales` exists: the network has to take images of half the side too."""
        return self.has_covariance and self.can_halve

    @property
    def can_halve(self) -> bool:
        """Whether the network also takes images of half the side."""
        return self.is_pooled and self.image_size % 64 == 0

    @property
    def rebuilt_size(self) -> int:
        """Side of the images that the decoder draws, in pixels."""
        return self.image_size // 2 if self.rebuilds_half else self.image_size

    def stride(self, layer: Layer) -> int:
        """Pixels per position of a target layer."""
        return self.neck_stride if layer == "neck" else 4 * 2 ** STAGES.index(layer)


@dataclass(frozen=True, kw_only=True)
class ConvVAEConfig:
    """Shape of the plain convolutional VAEs of the paper's small experiments.

    Convolutions 4 x 4 with stride 2, flattened into one hidden layer of 1024 units with ReLU, as
    in the authors' code for MNIST; three of them make the one for UCSD pedestrians.

    Raises:
        ValueError: a value is out of range.
    """

    image_size: int = 28  # pixels, square
    image_channels: int = 1
    channels: tuple[int, ...] = (64, 128)  # of each convolution
    hidden: int = 1024
    latent_dim: int = 32

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        if self.image_size >> len(self.channels) < 1:
            raise ValueError(f"image_size {self.image_size} is too small for {self.channels}")
        if len(self.channels) > len(CONVS):
            raise ValueError(f"channels must be of at most {len(CONVS)} convolutions")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Target layers, the last one last."""
        return CONVS[: len(self.channels)]


@dataclass(frozen=True, kw_only=True)
class OneClassConvConfig(ConvVAEConfig):
    """Shape and objective of a convolutional VAE that learns one kind of normal image.

    Raises:
        ValueError: a value is out of range.
    """

    # A hidden layer lies above the last activation, and its weights fix the size of the images.
    is_pooled: ClassVar[bool] = False
    has_covariance: ClassVar[bool] = False
    has_scales: ClassVar[bool] = False
    can_halve: ClassVar[bool] = False

    reconstruction: Reconstruction = "bce"
    beta: float = 1.0  # weight of the KL term; 1 is the paper's

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        super().__post_init__()
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim must be at least 1, got {self.latent_dim}")
        if self.beta < 0:
            raise ValueError(f"beta must not be negative, got {self.beta}")
        _check_choice("reconstruction", self.reconstruction, get_args(Reconstruction))

    def stride(self, layer: Layer) -> int:
        """Pixels per position of a target layer."""
        return 2 << CONVS.index(layer)


OneClassConfig = VAEConfig | OneClassConvConfig  # what `train` can be asked for
