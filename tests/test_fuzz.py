"""The fuzz targets notice what they look for, and draw the same files again."""

from pathlib import Path
from random import Random

import numpy as np

from anomaly_cli.errors import DataError
from fuzz.mutation import mutate_bytes, mutate_value
from fuzz.pictures import TARGETS, draw_picture, picture_seeds
from fuzz.target import Target
from fuzz.worker import kind_of, read_file


def test_a_number_draws_the_same_file_again() -> None:
    first, again, other = (draw_picture(Random(seed)) for seed in ("0 a 1", "0 a 1", "0 a 2"))
    assert first == again != other


def test_undamaged_pictures_of_every_format_are_read(tmp_path: Path) -> None:
    """Else damage would not reach far. Only colours and numbers of unknown meaning are refused."""
    reasons = []
    for number, content in enumerate(picture_seeds()):
        path = tmp_path / f"{number}.img"
        path.write_bytes(content)
        for target in TARGETS.values():
            try:
                target.read(path)
            except DataError as error:
                reasons.append(str(error))
    assert len(picture_seeds()) > 70
    assert len(reasons) < 10, reasons


def test_errors_of_the_tool_keep_the_rule_and_others_do_not(tmp_path: Path) -> None:
    def read(error: Exception) -> str:
        def fail(_path: Path) -> None:
            raise error

        return read_file(Target(draw_picture, fail), tmp_path)

    assert read(DataError("damaged")) == ""
    assert "ValueError: a bug" in read(ValueError("a bug"))
    assert kind_of(read(ValueError("1"))) == kind_of(read(ValueError("2")))
    assert kind_of(read(ValueError("1"))) != kind_of(read(TypeError("1")))


def test_an_error_that_stands_for_a_huge_array_breaks_the_rule(tmp_path: Path) -> None:
    def allocate(_path: Path) -> None:
        try:
            np.empty(2**50)
        except MemoryError as error:
            raise DataError("too little memory") from error

    assert "Unable to allocate" in read_file(Target(draw_picture, allocate), tmp_path)


def test_mutations_change_what_they_are_given() -> None:
    changed = [mutate_bytes(bytes(300), [b"other"], Random(seed)) for seed in range(100)]
    assert len(set(changed)) > 60
    values = [mutate_value({"a": [1, {"b": 2.5}]}, Random(seed)) for seed in range(100)]
    assert len(set(map(repr, values))) > 40
