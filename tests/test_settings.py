"""Settings as TOML: what is written is what is read, and where a folder counts as empty."""

import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_cli.config.commands import EvaluateConfig, LocalizeConfig, MapConfig
from anomaly_cli.config.data import DownloadConfig, PreviewDefectsConfig, SampleConfig
from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.presets import preset_names, preset_summary, read_preset
from anomaly_cli.config.reproduce import ReproduceConfig
from anomaly_cli.config.toml import ResolvedSettings, Setting, toml_value, write_settings
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.download.sources import files_of
from anomaly_cli.errors import ConfigError, OutputError
from anomaly_cli.files.atomic import prepare_output_folder

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)


def settings(*rows: Setting) -> ResolvedSettings:
    """Build settings of `train`."""
    return ResolvedSettings(command="train", rows=rows)


@given(st.one_of(SCALARS, st.lists(SCALARS, max_size=3)))
def test_every_value_is_read_back_as_it_was(value: object) -> None:
    assert tomllib.loads(f"key = {toml_value(value)}  # comment")["key"] == value


def test_the_source_stands_behind_each_value() -> None:
    text = settings(
        Setting("epochs", 3, "flag"),
        Setting("attention", None, "default"),
        Setting("data", Path("a b"), "config new\nline.toml"),
    ).to_toml()
    assert text.split("\n")[1:] == [
        "",
        "[train]",
        "epochs = 3  # flag",
        "# attention is not set",
        'data = "a b"  # config new\\nline.toml',
        "",
    ]
    assert tomllib.loads(text) == {"train": {"epochs": 3, "data": "a b"}}


def test_a_name_that_is_not_unicode_is_reported_and_left_out(tmp_path: Path) -> None:
    """TOML has no such text; the rest of the file stays readable."""
    write_settings(tmp_path, settings(Setting("data", Path("a\udc80"), "flag")))
    text = (tmp_path / "settings.toml").read_text()
    assert r"# data cannot be written in TOML: \"a\udc80\"".replace('\\"', '"') in text
    assert tomllib.loads(text) == {"train": {}}


def test_settings_of_one_category_of_all() -> None:
    rows = settings(Setting("category", "all", "preset mvtec"), Setting("seed", 0, "default"))
    assert rows.of_category("bottle").rows == (
        Setting("category", "bottle", "one of all, preset mvtec"),
        Setting("seed", 0, "default"),
    )
    assert rows.of_category("all") == rows


def test_a_folder_with_nothing_but_settings_is_empty(tmp_path: Path) -> None:
    """A run that was stopped before its first result does not block the next one."""
    write_settings(tmp_path, settings())
    prepare_output_folder(tmp_path, overwrite=False)
    (tmp_path / "report.json").touch()
    with pytest.raises(OutputError, match="already holds something"):
        prepare_output_folder(tmp_path, overwrite=False)


def test_settings_that_a_user_wrote_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[train]\nepochs = 3\n")
    with pytest.raises(OutputError, match="already holds something"):
        prepare_output_folder(tmp_path, overwrite=False)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_what_it_is(name: str) -> None:
    """In its first line, which `presets` shows; and it sets something."""
    assert preset_summary(name).endswith(".")
    assert read_preset(name)


SAMPLE = partial(SampleConfig, destination=Path("data"))
DOWNLOAD = partial(DownloadConfig, names=("mnist",))
REPRODUCE = partial(ReproduceConfig, targets=("table2",))
LOCALIZE = partial(LocalizeConfig, model=Path("model"), images=("images",))
REFUSED: list[tuple[Callable[..., object], dict[str, object], str]] = [
    (MapConfig, {"batch_size": 0}, "--batch-size must be at least 1, got 0"),
    (MapConfig, {"workers": 0}, "--workers must be at least 1, got 0"),
    (LOCALIZE, {"resume": True, "overwrite": True}, "--resume and --overwrite contradict"),
    (EvaluateConfig, {"baselines": True, "maps": Path("maps")}, "--baselines needs a model"),
    (EvaluateConfig, {"replicates": -1}, "--replicates must not be negative, got -1"),
    (EvaluateConfig, {"gallery": -1}, "--gallery must not be negative, got -1"),
    (EvaluateConfig, {"seed": -1}, "--seed must not be negative, got -1"),
    (EvaluateConfig, {"max_drop": 1.5}, r"--max-drop must be in \[0, 1\], got 1.5"),
    (SAMPLE, {"image_size": 31}, "--image-size must be at least 32, got 31"),
    (SAMPLE, {"count": 2}, "--count must be at least 3, got 2"),
    (SAMPLE, {"seed": -1}, "--seed must not be negative, got -1"),
    (PreviewDefectsConfig, {"category": "brick", "seed": -1}, "--seed must not be negative"),
    (DownloadConfig, {"names": ()}, "name at least one data set"),
    (DownloadConfig, {"names": ("cifar",)}, "unknown data set 'cifar'; known: mnist, ucsd"),
    (DownloadConfig, {"names": ("mnist", "ucsd"), "url": "https://x"}, "needs exactly one"),
    (DOWNLOAD, {"url": "ftp://x"}, "--url must be an address that starts with http"),
    (DOWNLOAD, {"checksum": "none"}, "--checksum needs --url"),
    (DOWNLOAD, {"url": "https://x", "checksum": "12"}, "--checksum must be 32"),
    (DisentangleConfig, {"seed": -1}, "--seed must not be negative, got -1"),
    (REPRODUCE, {"seeds": 0}, "--seeds must be at least 1, got 0"),
    (REPRODUCE, {"seed": -1}, "--seed must not be negative, got -1"),
    (TrainConfig, {"images_seen": -1}, "--images-seen must not be negative, got -1"),
    (TrainConfig, {"learning_rate": 0.0}, "--learning-rate must be > 0, got 0.0"),
    (TrainConfig, {"threshold": 0.5}, "threshold must be a ThresholdRule, got 0.5"),
    (TrainConfig, {"seed": -1}, "--seed must not be negative, got -1"),
    (TrainConfig, {"workers": -1}, "--workers must not be negative"),
    (TrainConfig.resolve, {"fast": True, "thorough": True}, "--fast and --thorough contradict"),
]


@pytest.mark.parametrize(("build", "values", "message"), REFUSED, ids=lambda part: str(part)[:40])
def test_nonsense_is_refused_when_settings_are_built(
    build: Callable[..., object], values: dict[str, object], message: str
) -> None:
    """From Python, too; the exit code is that of a usage error."""
    with pytest.raises(ConfigError, match=message) as caught:
        build(**values)
    assert caught.value.exit_code == 2


def test_one_checksum_for_several_files_is_refused() -> None:
    config = DownloadConfig(names=("mnist",), url="https://x", checksum="0" * 32)
    with pytest.raises(ConfigError, match="mnist has several files: no one --checksum fits"):
        files_of(config, "mnist")
