"""Reduced reproductions on real data, where they are at hand."""

import json
from pathlib import Path

import pytest
from conftest import run_cli

from anomaly_cli.config.reproduce import REDUCED_MARK

pytestmark = pytest.mark.data
PLACES = {
    "table2": "mvtec/bottle",
    "figure6": "mvtec/bottle",
    "figure4": "MNIST/raw",
    "table1": "ucsd",
}


@pytest.mark.parametrize("target", PLACES)
def test_reduced_runs_go_through_on_real_data(real_data: Path, tmp_path: Path, target: str) -> None:
    if not (real_data / PLACES[target]).is_dir():
        pytest.skip(f"ANOMALY_CLI_TEST_DATA has no {PLACES[target]}: {target} is not tried on it")
    options = ["--reduced", "--data", real_data, "--output", tmp_path, "--device", "cpu"]
    outcome = run_cli("reproduce", target, *options)
    assert outcome.code == 0, outcome.stderr
    assert REDUCED_MARK in outcome.stderr
    folder = tmp_path / "reduced" / target
    if target.startswith("figure"):
        assert (folder / f"{target}.png").stat().st_size > 10_000
        return
    rows = json.loads((folder / f"{target}.json").read_text())["rows"]
    ours = next(iter(rows.values()))
    assert all(0 <= value <= 1 for name, value in ours.items() if name != "deviation")
