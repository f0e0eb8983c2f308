"""Settings of `disentangle`, and their defaults, which `cli` reads. Loads no torch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anomaly_cli.config.objectives import METHODS, Entry, Method, parse_entries, weight_name
from anomaly_cli.errors import ConfigError, require
from models.config import ConvVAEConfig
from models.objective import MapNorm, Objective, Pairs


@dataclass(frozen=True, kw_only=True)
class DisentangleConfig:
    """Settings of `disentangle`."""

    method: Method = "ad-factor-vae"
    compare: tuple[str, ...] | None = None  # entries to train `seeds` times, not `method` once
    seeds: int = 5  # trainings of each entry of `compare`, with seed, seed + 1, ...
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
        """Refuse methods that do not exist, and weights out of range or that no entry takes."""
        try:
            objectives = [(METHODS[e.method], self.objective(*e)) for e in self.entries]
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from error
        for name, option in (("beta", "beta"), ("gamma", "gamma"), ("overlap", "lambda")):
            given = getattr(self, name)
            is_used = any(
                getattr(own, name) and getattr(objective, name) == given
                for own, objective in objectives
            )
            named = " or ".join(self.compare or (self.method,))
            require(given is None or is_used, f"--{option} is not supported with {named}")

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Methods to train, with their weights; the first is the reference of a comparison."""
        names = {method: weight_name(method) for method in METHODS}
        weights: dict[Method, float] = {
            method: getattr(self if getattr(self, name) is not None else METHODS[method], name)
            for method, name in names.items()
        }
        if self.compare is None:
            return (Entry(self.method, weights[self.method]),)
        return parse_entries(self.compare, weights)

    def objective(self, method: Method, weight: float | None = None) -> Objective:
        """Build the terms of a method, with the weights that were given instead of its own.

        Args:
            method: name of the method.
            weight: beta or gamma of an entry, which comes before `beta` or `gamma`.
        """
        default = METHODS[method]
        given: dict[str, Any] = {"pairs": self.pairs, "map_norm": self.map_norm}
        given |= {} if self.beta is None else {"beta": self.beta}
        for name in ("gamma", "overlap"):
            if getattr(self, name) is not None and getattr(default, name):
                given[name] = getattr(self, name)
        given |= {} if weight is None else {weight_name(method): weight}
        return replace(default, **given)

    def trainings(self) -> "list[DisentangleConfig]":
        """List the settings of each training: all entries with the first seed, then the next."""
        if self.compare is None:
            return [self]
        seeds = range(self.seed, self.seed + self.seeds)
        return [self.training(entry, seed) for seed in seeds for entry in self.entries]

    def training(self, entry: Entry, seed: int) -> "DisentangleConfig":
        """Make the settings of one training of an entry, in a folder below `output`."""
        objective, own = self.objective(*entry), METHODS[entry.method]
        return replace(
            self,
            compare=None,
            method=entry.method,
            beta=objective.beta,
            gamma=objective.gamma if own.gamma else None,
            overlap=objective.overlap if own.overlap else None,
            seed=seed,
            output=self.output / entry.folder / f"seed-{seed}",
        )

    @property
    def name(self) -> str:
        """Name of one training, for messages."""
        return f"{self.entries[0].label}, seed {self.seed}"

    @property
    def model(self) -> ConvVAEConfig:
        """Network of Kim and Mnih: 64, 32, 16, 8, 4 pixels, one hidden layer of 128 units."""
        return ConvVAEConfig(
            image_size=64, channels=(32, 32, 64, 64), hidden=128, latent_dim=self.latent_dim
        )
