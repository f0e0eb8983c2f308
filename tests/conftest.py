"""Tiny real data: MVTec trees with exact masks, drawn in a moment. No mocks."""

import hashlib
import math
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torchvision
from filelock import FileLock
from torchvision.models.resnet import BasicBlock, ResNet
from typer.testing import CliRunner

from anomaly_cli.cli import app
from anomaly_cli.detector.checkpoint import load_model, save_calibrations
from anomaly_cli.detector.maps import map_specs
from anomaly_cli.detector.normal import mixture
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.files.images import Mask, RGBImage, write_png
from anomaly_cli.training.calibrate import calibrate_late
from models import resnet

SIZE = 64  # pixels

# The networks of the tests are so small that a second thread costs more than it brings.
torch.set_num_threads(1)

# Their images are as simple: a sixteenth of the Gaussians describes them, and is fitted sooner.
mixture.COMPONENTS = 8


def draw_part(seed: int) -> RGBImage:
    """Draw the normal product: a grey disc on dark ground with a little noise, (64, 64, 3)."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(rows - SIZE / 2, columns - SIZE / 2)
    image = np.where(distance < 24, 160, 40)[..., None] + generator.normal(0, 4, (SIZE, SIZE, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_hole(seed: int) -> tuple[RGBImage, Mask]:
    """Draw the product with a bright red square of 10 x 10 pixels, and its exact mask."""
    image = draw_part(seed)
    row, column = np.random.default_rng(seed).integers(20, 34, 2)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[row : row + 10, column : column + 10] = True
    image[mask] = (250, 20, 20)
    return image, mask


def write_category(root: Path, category: str, *, train: int = 10, test: int = 3) -> Path:
    """Write an MVTec category: `train` normal images, `test` good and as many with a hole."""
    folder = root / category
    for i in range(train):
        write_png(folder / "train/good" / f"{i:03}.png", draw_part(i))
    for i in range(test):
        write_png(folder / "test/good" / f"{i:03}.png", draw_part(1000 + i))
        image, mask = draw_hole(2000 + i)
        write_png(folder / "test/hole" / f"{i:03}.png", image)
        write_png(folder / "ground_truth/hole" / f"{i:03}_mask.png", mask)
    return folder


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    """Write an MVTec root with one category, `disc`."""
    root = tmp_path / "mvtec"
    write_category(root, "disc")
    return root


class ThinResNet(ResNet):
    """A ResNet18 whose stages have an eighth of the channels."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2])

    def _make_layer(self, block: Any, planes: int, *arguments: Any, **options: Any) -> Any:
        return super()._make_layer(block, planes // 8, *arguments, **options)


def thin_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build networks with a fifth of the weights, where a test is not about their width.

    On a few small images, a step is spent on weights: gradients, clipping, Adam and copies.
    """
    for name, width in resnet.FEATURES.items():
        monkeypatch.setitem(resnet.FEATURES, name, width // 8)
    monkeypatch.setattr(torchvision.models, "resnet18", lambda **_weights: ThinResNet())


@pytest.fixture
def thin_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the network of one test thin."""
    thin_networks(monkeypatch)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Find the real data sets, or skip the test."""
    path = os.environ.get("ANOMALY_CLI_TEST_DATA")
    if not path:
        pytest.skip("ANOMALY_CLI_TEST_DATA is not set: the tests on real images do not run")
    return Path(path)


class Outcome(NamedTuple):
    """Exit code and output of a command."""

    code: int
    stdout: str
    stderr: str


def run_cli(*arguments: object) -> Outcome:
    """Run the command line in this process, as the console script would."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def threshold_of(record: dict[str, Any]) -> Threshold:
    """Read the threshold of a line of a manifest or a row of a report."""
    outline, level = (
        math.nan if record[name] is None else record[name] for name in ("outline", "normal_level")
    )
    return Threshold(record["threshold"], "", 0, outline, normal_level=level)


def calibrate_all(model: Path) -> None:
    """Calibrate every map of a model, so that no test has to add to a shared folder."""
    loaded = load_model(model)
    record = loaded.record
    specs = [spec for spec in map_specs(record.model) if str(spec) not in record.calibrations]
    save_calibrations(loaded, calibrate_late(loaded, specs, torch.device("cpu")))


class Trained(NamedTuple):
    """A data set and the model that was trained on it."""

    data: Path
    runs: Path

    @property
    def model(self) -> Path:
        """Model file of `disc`."""
        return self.runs / "disc" / "model.safetensors"


TRAIN_OPTIONS = ("--image-size", 64, "--latent-dim", 4, "--batch-size", 5)


def train_disc(folder: Path, *options: object, images: int = 10) -> Trained:
    """Train a model of `disc` by the command line for a few epochs."""
    write_category(folder / "mvtec", "disc", train=images)
    outcome = run_cli(
        "train", "--data", folder / "mvtec", "--category", "disc", "--output", folder / "runs",
        "--epochs", 6, *TRAIN_OPTIONS, *options,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    calibrate_all(folder / "runs/disc")
    return Trained(folder / "mvtec", folder / "runs")


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Fill a folder once for all workers of a run; the other workers wait.

    No test may change its contents.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the folder of all workers
    folder = root / f"{name}-{code_hash()}"
    with FileLock(root / f"{folder.name}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            make(folder)
            (folder / "done").touch()
    return folder


@cache
def code_hash() -> str:
    """Hash the code on which the trained models of fixtures depend."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted([*root.glob("anomaly_cli/**/*.py"), *root.glob("models/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train a model of `disc` as the paper does."""
    folder = make_once(
        tmp_path_factory, "trained", lambda path: train_disc(path, "--guidance", "none")
    )
    return Trained(folder / "mvtec", folder / "runs")


@pytest.fixture(scope="session")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train a model of `disc` with guided attention and a memory, the default.

    From 20 images on, some are held out.
    """
    folder = make_once(tmp_path_factory, "guided", partial(train_disc, images=24))
    return Trained(folder / "mvtec", folder / "runs")
