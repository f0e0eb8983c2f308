"""Settings of `disentangle`, and their defaults, which `cli` reads. Loads no torch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from anomaly_cli.errors import ConfigError, require
from models.config import ConvVAEConfig
from models.objective import MapNorm, Objective, Pairs

Method = Literal["beta-vae", "factor-vae", "ad-factor-vae", "ad-beta-vae"]
# Weights of the best scores in Table 3 of the paper, and lambda of equation 7.
METHODS: dict[Method, Objective] = {
    "beta-vae": Objective(beta=4.0),
    "factor-vae": Objective(gamma=40.0),
    "ad-factor-vae": Objective(gamma=40.0, overlap=1.0),
    "ad-beta-vae": Objective(beta=4.0, overlap=1.0),
}


@dataclass(frozen=True, kw_only=True)
class DisentangleConfig:
    """Settings of `disentangle`."""

    method: Method = "ad-factor-vae"
    compare: tuple[str, str] | None = None  # train both, `seeds` times, instead of `method`
    seeds: int = 5  # runs of each method of `compare`, with seed, seed + 1, ...
    data: Path | None = None  # the official npz; None: the images are drawn
    output: Path = Path("results")
    beta: float | None = None  # None: that of the method in METHODS
    gamma: float | None = None
    overlap: float | None = None  # lambda
    pairs: Pairs = "random"
    map_norm: MapNorm = "none"
    latent_dim: int = 10
    steps: int = 300_000
    batch_size: int = 64
    learning_rate: float = 1e-4  # of the VAE; Adam, betas 0.9 and 0.999
    discriminator_learning_rate: float = 1e-4  # Adam, betas 0.5 and 0.9
    score_images: int | None = None  # number of random images to score; None: all
    seed: int = 0
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        for name, least in (("steps", 1), ("batch_size", 2), ("latent_dim", 2), ("seeds", 1)):
            value = getattr(self, name)
            option = name.replace("_", "-")
            require(value >= least, f"--{option} must be at least {least}, got {value}")
        rates = self.learning_rate, self.discriminator_learning_rate
        require(min(rates) > 0, f"learning rates must be positive, got {min(rates)}")
        images = self.score_images
        require(
            images is None or images >= 1000, f"--score-images must be at least 1000, got {images}"
        )
        require(self.seed >= 0, f"--seed must not be negative, got {self.seed}")
        self._check_weights()

    def _check_weights(self) -> None:
        """Refuse methods that do not exist, and weights out of range or that no method has."""
        for name in self.compare or ():
            require(name in METHODS, f"--compare {name}: expected two of {', '.join(METHODS)}")
        require(
            len(set(self.methods)) == len(self.methods), "--compare needs two different methods"
        )
        objectives = [METHODS[name] for name in self.methods]
        for name, option in (("gamma", "gamma"), ("overlap", "lambda")):
            is_used = any(getattr(objective, name) for objective in objectives)
            require(
                getattr(self, name) is None or is_used,
                f"--{option} is not supported with {' or '.join(self.methods)}",
            )
        try:
            for method in self.methods:
                self.objective(method)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    @property
    def methods(self) -> tuple[Method, ...]:
        """Methods to train."""
        return cast("tuple[Method, Method] | None", self.compare) or (self.method,)

    def objective(self, method: Method) -> Objective:
        """Build the terms of a method, with the weights that were given instead of its own."""
        default = METHODS[method]
        given: dict[str, Any] = {"pairs": self.pairs, "map_norm": self.map_norm}
        given |= {} if self.beta is None else {"beta": self.beta}
        for name in ("gamma", "overlap"):
            if getattr(self, name) is not None and getattr(default, name):
                given[name] = getattr(self, name)
        return replace(default, **given)

    @property
    def model(self) -> ConvVAEConfig:
        """Network of Kim and Mnih: 64, 32, 16, 8, 4 pixels, one hidden layer of 128 units."""
        return ConvVAEConfig(
            image_size=64, channels=(32, 32, 64, 64), hidden=128, latent_dim=self.latent_dim
        )
