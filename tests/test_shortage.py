"""Memory stays bounded where images are large, and too little of it costs one image or one line."""

import json
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import Trained, run_cli

from anomaly_cli.detector import predict, prediction, reading
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.prediction import KINDS, Prediction
from anomaly_cli.errors import DataError, is_shortage, name_shortage
from anomaly_cli.files.images import RGBImage, write_png
from anomaly_cli.files.read import read_image

TORCH = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 137438953472 bytes"
OPENCV = "OpenCV(4.10) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Write 24 images of noise."""
    generator = np.random.default_rng(0)
    for number in range(24):
        picture = generator.integers(0, 256, (80, 96, 3)).astype(np.uint8)
        write_png(tmp_path / f"images/{number:02}.png", picture)
    return tmp_path / "images"


def localize(trained: Trained, images: Path, output: Path) -> list[dict[str, Any]]:
    """Localize images, and read the manifest."""
    outcome = run_cli("localize", trained.model, images, "--output", output)
    assert outcome.code in {0, 3}, outcome.stderr
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def read_all(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder but the settings, which name the folder."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    files.pop("settings.toml")
    return files


def test_few_large_images_are_in_memory_at_once(
    trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: set[int] = set()
    most = 0

    def decode(path: Path) -> RGBImage:
        nonlocal most
        image = read_image(path)
        alive.add(id(image))
        weakref.finalize(image, alive.discard, id(image))
        most = max(most, len(alive))
        return image

    detector = Detector.load(trained.model)
    paths = sorted(images.iterdir())
    results = list(detector.predict_all(paths, decode=decode))
    assert most == len(paths)  # small ones are not decoded twice
    kept = [result.score for result in results if isinstance(result, Prediction)]
    del results
    assert not alive

    most = 0
    monkeypatch.setattr(reading, "_KEPT_BYTES", 1)
    again = [r for r in detector.predict_all(paths, decode=decode) if not isinstance(r, DataError)]
    assert most <= detector.view.workers + 1
    assert [result.score for result in again] == kept
    np.testing.assert_array_equal(again[3].image, read_image(paths[3]))


def test_large_images_give_the_same_files(
    trained: Trained, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    localize(trained, images, tmp_path / "kept")
    monkeypatch.setattr(reading, "_KEPT_BYTES", 1)
    localize(trained, images, tmp_path / "read-again")
    assert read_all(tmp_path / "kept") == read_all(tmp_path / "read-again")


@pytest.mark.parametrize("change", ["gone", "another"])
def test_an_image_that_changes_during_a_run_is_its_own_error(
    trained: Trained,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    original = reading._decode_again
    monkeypatch.setattr(reading, "_KEPT_BYTES", 1)

    def vanish(decode: Any, path: Path, shape: tuple[int, ...]) -> RGBImage:
        if path.name == "05.png" and change == "gone":
            path.unlink(missing_ok=True)
        elif path.name == "05.png":
            write_png(path, np.zeros((8, 8, 3), np.uint8))
        return original(decode, path, shape)

    monkeypatch.setattr(reading, "_decode_again", vanish)
    records = localize(trained, images, tmp_path / "out")
    failed = [record for record in records if "error" in record]
    assert [record["image"] for record in failed] == ["05.png"]
    assert ("No such file" if change == "gone" else "has changed") in failed[0]["error"]
    names = {path.stem for path in (tmp_path / "out").rglob("*.*") if path.parent.name != "out"}
    assert names == {f"{number:02}" for number in range(24)} - {"05"}


@pytest.mark.parametrize(
    ("module", "place"),
    [(reading, "resize_image"), (prediction, "fit_map"), (prediction, "overlay")],
)
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(OPENCV)])
def test_too_little_memory_for_an_image_costs_no_other(
    trained: Trained,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    place: str,
    error: Exception,
) -> None:
    original, calls = getattr(module, place), []

    def fail(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            raise error
        return original(*arguments)

    monkeypatch.setattr(module, place, fail)
    records = localize(trained, images, tmp_path / "out")
    failed = [record["error"] for record in records if "error" in record]
    assert len(failed) == 1
    assert failed[0].endswith("there is too little memory for it")
    for kind in KINDS:
        assert len(list((tmp_path / "out" / kind).iterdir())) == 23


def test_too_little_memory_for_the_network_is_one_line(
    trained: Trained, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(TORCH)

    monkeypatch.setattr(predict, "to_tensor", fail)
    outcome = run_cli("localize", trained.model, images, "--output", tmp_path / "out")
    assert outcome.code == 6
    assert outcome.stderr.splitlines()[-1].startswith("error: there is too little memory; smaller")


def test_other_errors_are_no_shortage() -> None:
    assert is_shortage(MemoryError())
    assert not is_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(ZeroDivisionError), name_shortage("image.png"):
        raise ZeroDivisionError
