"""Exported graphs give the results of the models that they were made of."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import Trained, calibrate_all, draw_hole, draw_part, run_cli
from torch import Tensor, nn

from anomaly_cli import Detector
from anomaly_cli.config.commands import MapConfig
from anomaly_cli.detector.masks import anomaly_mask
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import OutputError
from anomaly_cli.export.check import check_export, draw_images
from anomaly_cli.export.formats import Exported
from anomaly_cli.export.record import KEY, ExportRecord
from anomaly_cli.export.regions import anomaly_masks
from anomaly_cli.export.resizing import fit_maps, resize_images
from anomaly_cli.files.images import write_png
from anomaly_cli.files.resize import fit_map, resize_image

onnx = pytest.importorskip(
    "onnx", reason="the export tests need the extra: pip install 'anomaly-cli[onnx]'"
)
pytest.importorskip("onnxruntime", reason="pip install 'anomaly-cli[onnx]'")
pytest.importorskip("onnxscript", reason="pip install 'anomaly-cli[onnx]'")

SIDE = 80
THRESHOLDS = (
    Threshold(1.0, "max", 9, outline=0.5, normal_level=-1.0),
    Threshold(1.0, "max", 9, outline=0.5),
    Threshold(1.0, "max", 9, outline=1.8, normal_level=-1.0),
    Threshold(1.0, "max", 9),
)
Parts = Callable[[np.ndarray, np.ndarray], dict[str, Tensor]]


class GraphParts(nn.Module):
    """What an exported graph does before and after the network."""

    def forward(self, images: Tensor, maps: Tensor) -> dict[str, Tensor]:
        """Resize images and maps, and mark the anomalous regions of these."""
        resized = resize_images(images, SIDE)  # first, as in the graph of a detector
        fitted = fit_maps(maps, images.shape[1], images.shape[2])
        masks = [anomaly_masks(fitted, threshold) for threshold in THRESHOLDS]
        return {
            "resized": resized,
            "fitted": fitted,
            **{str(place): mask for place, mask in enumerate(masks)},
        }


@pytest.fixture(scope="module")
def graph_parts() -> Parts:
    """Trace the parts once, for images and maps of any number and size."""
    free = torch.export.Dim.DYNAMIC
    example = (torch.zeros(3, 70, 90, 3, dtype=torch.uint8), torch.rand(3, SIDE, SIDE))
    shapes = ({0: free, 1: free, 2: free}, {0: free})
    program = torch.export.export(GraphParts(), example, dynamic_shapes=shapes, strict=False)
    module = program.module()
    return lambda images, maps: module(torch.from_numpy(images), torch.from_numpy(maps))


def smooth_maps(generator: np.random.Generator, count: int) -> np.ndarray:
    """Draw maps with blobs of both signs."""
    noise = generator.normal(size=(count, SIDE, SIDE)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(each, (0, 0), 5) * 15 for each in noise])


# Halved, a whole ratio, halves that rounding decides about (1.6 and 1.5), enlarged, mixed, equal.
@pytest.mark.parametrize(
    "size",
    [
        (160, 160),
        (240, 480),
        (128, 128),
        (120, 200),
        (31, 57),
        (200, 33),
        (80, 80),
        (1, 1),
        (3, 999),
    ],
)
def test_parts_of_a_graph_equal_opencv_and_numpy(graph_parts: Parts, size: tuple[int, int]) -> None:
    generator = np.random.default_rng(size)
    images = generator.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    maps = smooth_maps(generator, 2)
    found = graph_parts(images, maps)
    for place in range(2):
        expected = resize_image(images[place], SIDE, SIDE)
        resized = found["resized"][place].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(resized, expected)
        fitted = found["fitted"][place].numpy()
        np.testing.assert_allclose(fitted, fit_map(maps[place], *size), atol=2e-5)
        assert fitted.max() == maps[place].max()
        for number, threshold in enumerate(THRESHOLDS):
            mask = anomaly_mask(fitted, threshold)
            np.testing.assert_array_equal(found[str(number)][place].numpy(), mask)


def test_regions_a_pixel_apart_stay_apart(graph_parts: Parts) -> None:
    """Small regions of which few exceed the threshold, as in the maps of autoencoders."""
    generator = np.random.default_rng(0)
    levels = generator.choice([-2.0, 0.9, 1.5], (1, SIDE, SIDE), p=[0.7, 0.28, 0.02])
    maps = levels.astype(np.float32)
    found = graph_parts(np.zeros((1, SIDE, SIDE, 3), np.uint8), maps)
    for number, threshold in enumerate(THRESHOLDS):
        expected = anomaly_mask(maps[0], threshold)
        np.testing.assert_array_equal(found[str(number)][0].numpy(), expected)
    assert 100 < found["1"].sum() < (maps > 0).sum() - 100


def test_a_winding_region_is_one_region(graph_parts: Parts) -> None:
    """A spiral, of which one end alone exceeds the threshold."""
    spiral = np.full((SIDE, SIDE), -2.0, np.float32)
    top, left, bottom, right = 2, 2, SIDE - 3, SIDE - 3
    while right - left > 8:
        spiral[top, left : right + 1] = spiral[top : bottom + 1, right] = 0.9
        spiral[bottom, left + 4 : right + 1] = spiral[top + 4 : bottom + 1, left + 4] = 0.9
        spiral[top + 4, left + 4 : right - 3] = 0.9
        top, left, bottom, right = top + 4, left + 4, bottom - 4, right - 4
    spiral[2, 2] = 1.5
    spiral[40:43, 40:43] = 0.9  # apart
    images = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    found = graph_parts(images, spiral[None])
    for number, threshold in enumerate(THRESHOLDS):
        expected = anomaly_mask(spiral, threshold)
        np.testing.assert_array_equal(found[str(number)][0].numpy(), expected)
    assert found["1"].sum() > 500


@pytest.fixture(scope="module")
def exported(guided: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the default model of `disc`, checked on its test images."""
    path = tmp_path_factory.mktemp("export") / "disc.onnx"
    images = guided.data / "disc/test"
    outcome = run_cli("export", guided.model, "--output", path, "--check", images, "--json")
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    assert result["checked_images"] == 6
    assert result["largest_difference"] < 1e-3
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Draw parts with and without a hole, of several sizes, and a file that is no image."""
    folder = tmp_path / "images"
    for place, size in enumerate([(64, 64), (100, 130), (41, 64), (64, 64), (200, 90)]):
        # Not of the training images: there, distances from the memory are rounding alone.
        seed = 500 + place
        image = draw_hole(seed)[0] if place % 2 else draw_part(seed)
        write_png(folder / f"{place}.png", resize_image(image, *size))
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def manifest(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_both_engines_write_the_same_files_and_lines(
    guided: Trained, exported: Path, images: Path, tmp_path: Path
) -> None:
    for model, folder in ((guided.model, "torch"), (exported, "onnx")):
        outcome = run_cli("localize", model, images, "--output", tmp_path / folder)
        assert outcome.code == 3, outcome.stderr  # one image is none
    pairs = zip(manifest(tmp_path / "torch"), manifest(tmp_path / "onnx"), strict=True)
    for expected, found in pairs:
        assert found.keys() == expected.keys()
        for key in expected.keys() - {"score", "nearest", "anomalous_share"}:
            assert found[key] == expected[key], key
        if "error" in expected:
            continue
        assert found["score"] == pytest.approx(expected["score"], rel=1e-4)
        assert found["anomalous_share"] == pytest.approx(expected["anomalous_share"], abs=1e-2)
        assert found["nearest"]["image"] == expected["nearest"]["image"]  # type: ignore[index]
    names = [
        sorted(path.relative_to(tmp_path / folder) for path in (tmp_path / folder).rglob("*.*"))
        for folder in ("torch", "onnx")
    ]
    assert names[0] == names[1]


def test_localize_of_an_exported_model_loads_no_torch(
    exported: Path, images: Path, tmp_path: Path
) -> None:
    code = (
        "import sys\nfrom anomaly_cli.cli import app\n"
        f"arguments = ['localize', {str(exported)!r}, {str(images / '1.png')!r}]\n"
        f"app([*arguments, '--output', {str(tmp_path / 'out')!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'torchvision'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_file_says_what_it_is(guided: Trained, exported: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.read_bytes())
    record = ExportRecord.from_json(session.get_modelmeta().custom_metadata_map[KEY])
    detector = Detector.open(guided.model, MapConfig(device="cpu"))
    assert record.category == "disc"
    assert record.threshold == detector.threshold
    assert record.model_sha256 == detector.sha256
    assert record.versions["torch"] == torch.__version__
    image = draw_hole(3)[0]
    results = session.run(["score", "verdict", "mask"], {"images": np.stack([image, image])})
    prediction = detector.predict(image)
    assert results[0] == pytest.approx(prediction.score, rel=1e-4)
    assert results[1].tolist() == [prediction.is_anomalous] * 2
    assert (results[2][1] != prediction.mask).mean() < 0.01


def test_torch_reads_its_own_format_without_this_package(trained: Trained, tmp_path: Path) -> None:
    """A ResNet18 of its own, as in the paper, on drawn images."""
    path, image = tmp_path / "disc.pt2", draw_hole(5)[0]
    outcome = run_cli("export", trained.model, "--format", "torch", "--output", path)
    assert outcome.code == 0, outcome.stderr
    assert "flipped" in outcome.stdout
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys, numpy, torch\n"
        f"files = {{{KEY!r}: ''}}\n"
        f"module = torch.export.load({str(path)!r}, extra_files=files).module()\n"
        f"image = torch.from_numpy(numpy.load({str(tmp_path / 'image.npy')!r}))\n"
        "score = module(image[None])['score']\n"
        f"print(float(score[0]), files[{KEY!r}][:1], 'anomaly_cli' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    score, text, is_loaded = done.stdout.split()
    expected = Detector.open(trained.model, MapConfig(device="cpu")).predict(image).score
    assert float(score) == pytest.approx(expected, rel=1e-4)
    assert (text, is_loaded) == ("{", "False")


class Changed:
    """A detector whose export gives other results at one place, or inverted masks."""

    def __init__(
        self, detector: Detector, shift: float, place: tuple[int, int], *, is_inverted: bool = False
    ) -> None:
        self.detector, self.shift, self.place = detector, shift, place
        self.is_inverted = is_inverted

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Predict, and shift one pixel of the maps and the scores."""
        predictions = [self.detector.predict(image) for image in images]
        maps = np.stack([prediction.anomaly_map for prediction in predictions])
        maps[:, *self.place] += self.shift
        scores = np.array([prediction.score for prediction in predictions])
        threshold = self.detector.threshold
        verdicts = np.array([threshold.is_exceeded(score + self.shift) for score in scores])
        masks = np.stack([prediction.mask != self.is_inverted for prediction in predictions])
        return {"map": maps, "score": scores + self.shift, "verdict": verdicts, "mask": masks}


def holes() -> Iterator[tuple[str, np.ndarray]]:
    return ((f"hole {seed}", draw_hole(seed)[0]) for seed in range(2))


def test_a_changed_map_or_verdict_fails_and_says_where(guided: Trained) -> None:
    detector = Detector.open(guided.model, MapConfig(device="cpu"))
    spread = float(np.ptp([detector.predict(image).anomaly_map for _, image in holes()]))
    result = check_export(Changed(detector, 5e-4 * spread, (7, 9)), detector, holes())
    assert result.images == 2
    assert result.difference == pytest.approx(5e-4, rel=0.05)
    with pytest.raises(OutputError, match=r"map of hole 0 by .* at row 7, column 9"):
        check_export(Changed(detector, 2e-3 * spread, (7, 9)), detector, holes())
    with pytest.raises(OutputError, match=r"verdict of hole 0: score .* becomes"):
        check_export(Changed(detector, -1e3, (7, 9)), detector, holes())
    inverted = Changed(detector, 0.0, (7, 9), is_inverted=True)
    with pytest.raises(OutputError, match=r"mask of hole 0 in \d+% of its pixels"):
        check_export(inverted, detector, holes())


def test_a_failed_check_leaves_no_file(
    guided: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export_wrongly(detector: Detector, _how: str) -> Exported:
        return Exported(b"graph", Changed(detector, 5.0, (7, 9)))

    monkeypatch.setattr("anomaly_cli.commands.export.export_detector", export_wrongly)
    path = tmp_path / "disc.pt2"
    outcome = run_cli("export", guided.model, "--format", "torch", "--output", path)
    assert outcome.code == 5
    assert "export changes the map of drawn image 0" in outcome.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_drawn_images_have_several_sizes() -> None:
    shapes = [image.shape for _name, image in draw_images(320)]
    assert len(set(shapes)) == len(shapes) == 7
    assert (320, 320, 3) in shapes  # the size of the network is a special case


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--latents", "all"), 2, "--latents needs the model that train wrote"),
        (("--map", "appearance"), 2, "--map needs the model that train wrote"),
        (("--threshold", "max"), 2, "--threshold needs the model that train wrote"),
        (("--engine", "torch"), 2, "torch reads what train wrote"),
        (("--device", "cuda"), 2, "computes on the CPU"),
    ],
)
def test_options_of_a_trained_model_are_refused(
    exported: Path, images: Path, tmp_path: Path, options: tuple[str, ...], code: int, reason: str
) -> None:
    output = tmp_path / "out"
    outcome = run_cli("localize", exported, images, "--output", output, *options)
    assert outcome.code == code
    assert reason in outcome.stderr.replace("\n", " ")
    assert not output.exists()


def test_engine_onnxruntime_refuses_a_trained_model(guided: Trained, images: Path) -> None:
    outcome = run_cli("localize", guided.model, images, "--engine", "onnxruntime")
    assert outcome.code == 2
    assert "reads what export wrote" in outcome.stderr.replace("\n", " ")


def test_damaged_files_are_one_line(exported: Path, images: Path, tmp_path: Path) -> None:
    content = exported.read_bytes()
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    without = model.SerializeToString()
    onnx.helper.set_model_props(model, {KEY: '{"schema_version": 99}'})
    newer = model.SerializeToString()
    broken = {
        "is no ONNX file, or is damaged": content[: len(content) // 2],
        "is no ONNX file": b"no model",
        "was not written by anomaly-cli export": without,
        "wrong metadata: schema version 99": newer,
    }
    for reason, damaged in broken.items():
        path = tmp_path / "damaged.onnx"
        path.write_bytes(damaged)
        outcome = run_cli("localize", path, images, "--output", tmp_path / "out")
        assert outcome.code == 4, reason
        assert reason in outcome.stderr.replace("\n", " ")
    missing = run_cli("localize", tmp_path / "missing.onnx", images)
    assert missing.code == 4
    assert "does not exist" in missing.stderr


def test_a_missing_package_is_named_with_the_command(
    guided: Trained, exported: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for arguments in (
        ("localize", exported, images, "--output", tmp_path / "out"),
        ("export", guided.model, "--output", tmp_path / "x.onnx"),
    ):
        outcome = run_cli(*arguments)
        assert outcome.code == 2
        assert "pip install 'anomaly-cli[onnx]'" in outcome.stderr.replace("\n", " ")


def test_an_existing_file_stays(guided: Trained, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_text("mine")
    outcome = run_cli("export", guided.model, "--output", path)
    assert outcome.code == 5
    assert path.read_text() == "mine"


def test_maps_that_need_gradients_are_refused(trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained.model.parent, folder)
    calibrate_all(folder / "model.safetensors")
    for options, reason in (
        (("--map", "attention", "--attention", "official"), "needs gradients"),
        (("--map", "ssim"), "computed by scikit-image"),
    ):
        outcome = run_cli("export", folder, *options, "--output", tmp_path / "x.onnx")
        assert outcome.code == 2, outcome.stderr
        assert reason in outcome.stderr.replace("\n", " ")
