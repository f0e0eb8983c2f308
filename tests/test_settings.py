"""Settings as TOML: what is written is what is read, and where a folder counts as empty."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_cli.config.presets import preset_names, preset_summary, read_preset
from anomaly_cli.config.toml import ResolvedSettings, Setting, toml_value, write_settings
from anomaly_cli.errors import OutputError
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
