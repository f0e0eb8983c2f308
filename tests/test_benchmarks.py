"""Benchmarks run: their tables are complete, and a missing GPU is said in one line."""

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the benchmarks importable, as they are for the scripts beside them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.mark.usefixtures("benchmarks")
def test_ratio_is_that_of_neighbours_in_time() -> None:
    """A machine that slows down threefold halfway changes no ratio."""
    import measure

    tool, bare = iter([2.0, 2.0, 6.0]), iter([4.0, 4.0, 12.0])
    pair = measure.paired(lambda: next(tool), lambda: next(bare), 3)
    assert pair.ratio == (0.5, 0.5, 0.5)
    assert pair.tool == (2.0, 2.0, 6.0)


@pytest.mark.usefixtures("benchmarks")
def test_benchmarks_share_one_json_file(tmp_path: Path) -> None:
    import measure

    path = tmp_path / "bench.json"
    for name in ("first", "second"):
        table = measure.Table(name, ("what", "seconds"), path)
        table.add("row", measure.Spread(2.0, 1.0, 4.0))
        table.save()
    found = json.loads(path.read_text())
    assert list(found) == ["first", "second"]
    assert found["first"]["rows"] == [
        {"what": "row", "seconds": {"median": 2.0, "lowest": 1.0, "highest": 4.0}}
    ]
    assert table.lines[-1] == "| row | 2 (1 to 4) |"


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    assert stopped.value.code == 6
    said = capsys.readouterr()
    assert said.err.startswith("no GPU was found")
    assert said.err.count("\n") == 1
    assert not said.out
