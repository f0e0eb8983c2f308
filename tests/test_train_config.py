"""One default: what Python gets from `TrainConfig` is what the command line trains with."""

from dataclasses import fields
from typing import Any

import pytest
from conftest import run_cli

from anomaly_cli.commands import train
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.errors import ConfigError
from models.config import Attention, VAEConfig

# Values that hang on data set, guidance and speed: image size, reconstruction, beta, batch size,
# epochs, images seen, half size, learning rate, augmentation, held out.
EXPECTED: dict[tuple[str, str | None, bool], tuple[Any, ...]] = {
    ("mvtec", None, False): (320, "mse", 0.05, 8, 5, 6000, 0.0, 2e-3, "in-place", 0.15),
    ("mvtec", None, True): (256, "mse", 0.05, 8, 5, 1500, 0.0, 2e-3, "in-place", 0.15),
    ("mvtec", "none", False): (256, "bce", 1.0, 16, 60, 0, 0.0, 1e-3, "auto", 0.1),
    ("mvtec", "none", True): (128, "bce", 1.0, 16, 40, 0, 0.0, 1e-3, "auto", 0.1),
    ("folder", None, False): (320, "mse", 0.05, 8, 5, 6000, 0.0, 2e-3, "in-place", 0.15),
    ("folder", None, True): (256, "mse", 0.05, 8, 5, 1500, 0.0, 2e-3, "in-place", 0.15),
    ("folder", "none", False): (256, "bce", 1.0, 16, 60, 0, 0.0, 1e-3, "auto", 0.1),
    ("folder", "none", True): (128, "bce", 1.0, 16, 40, 0, 0.0, 1e-3, "auto", 0.1),
    ("mnist", None, False): (28, "bce", 1.0, 128, 10, 0, 0.0, 1e-3, "none", 0.1),
    ("mnist", "none", False): (28, "bce", 1.0, 128, 10, 0, 0.0, 1e-3, "none", 0.1),
    ("ucsd", None, False): (100, "bce", 0.01, 16, 40, 0, 0.0, 1e-4, "none", 0.1),
    ("ucsd", "none", False): (100, "bce", 0.01, 16, 40, 0, 0.0, 1e-4, "none", 0.1),
}


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Resolve the settings of a command line of `train`."""

    def resolve(*options: str) -> TrainConfig:
        seen: list[TrainConfig] = []

        def record(config: TrainConfig, *_arguments: object, **_options: object) -> list[Any]:
            seen.append(config)
            raise ConfigError("stopped")

        monkeypatch.setattr(train, "run", record)
        outcome = run_cli("train", *options)
        assert outcome.stderr.endswith("stopped\n"), outcome.stderr
        return seen[0]

    return resolve


def test_a_config_without_arguments_is_the_command_without_options(command_line: Any) -> None:
    found, own = command_line(), TrainConfig()
    for each in fields(TrainConfig):
        assert getattr(found, each.name) == getattr(own, each.name), each.name


@pytest.mark.parametrize(("dataset", "guidance", "fast"), EXPECTED)
def test_what_is_not_given_is_filled_in_alike(
    command_line: Any, dataset: Any, guidance: Any, fast: bool
) -> None:
    options = ["--dataset", dataset]
    options += ["--guidance", guidance] if guidance else []
    options += ["--fast"] if fast else []
    found = command_line(*options)
    own = TrainConfig.resolve(dataset=dataset, guidance=guidance, fast=fast)
    for each in fields(TrainConfig):
        assert getattr(found, each.name) == getattr(own, each.name), each.name
    model = own.model
    values = (
        model.image_size, model.reconstruction, model.beta, own.batch_size, own.epochs,
        own.images_seen, own.half_size, own.learning_rate, own.augmentation, own.held_out,
    )  # fmt: skip
    assert values == EXPECTED[dataset, guidance, fast]
    if isinstance(model, VAEConfig):
        assert model.neck == ("none" if guidance else "fpn")
        assert own.guidance == (guidance or "synthetic")
    else:
        assert (own.guidance, own.attention) == ("none", Attention.DIFF_MAHAL)


def test_given_values_win_and_unknown_names_are_refused() -> None:
    config = TrainConfig.resolve(image_size=64, epochs=3, fast=True, beta=None)
    assert (config.model.image_size, config.epochs, config.images_seen) == (64, 3, 0)
    with pytest.raises(TypeError, match="epoch_count"):
        TrainConfig.resolve(epoch_count=3)
    with pytest.raises(ConfigError, match="--image-size must be a multiple of 32, got 33"):
        TrainConfig.resolve(image_size=33)
    with pytest.raises(ConfigError, match="--fast is not supported with --dataset mnist"):
        TrainConfig.resolve(dataset="mnist", fast=True)
