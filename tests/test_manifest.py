"""The manifest of a run: what is read again can be written again."""

from pathlib import Path

import pytest

from anomaly_cli.errors import OutputError
from anomaly_cli.files.manifest import manifest_line, read_manifest


def test_whole_lines_come_back_and_a_cut_one_is_left_out(tmp_path: Path) -> None:
    records = [{"image": "a.png", "score": 1.5}, {"image": "\udc80.png", "error": "x"}]
    text = "".join(map(manifest_line, records))
    (tmp_path / "m.jsonl").write_text(text + '{"image": "c.p')
    assert read_manifest(tmp_path / "m.jsonl") == records
    assert read_manifest(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "[[-1e400]]"])
def test_numbers_that_json_does_not_have_are_damage(tmp_path: Path, number: str) -> None:
    (tmp_path / "m.jsonl").write_text(f'{{"image": "a.png", "score": {number}}}\n')
    with pytest.raises(OutputError, match="is damaged; --overwrite starts anew"):
        read_manifest(tmp_path / "m.jsonl")
