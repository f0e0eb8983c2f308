"""Files of one training: model, statistics and scores. The scores are written last."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from anomaly_cli.config.names import MODEL_FILE, STATE_FILE
from anomaly_cli.config.objectives import Entry, weight_name
from anomaly_cli.disentangle.metrics import DisentanglementScores
from anomaly_cli.disentangle.training import StepStats
from anomaly_cli.errors import CheckpointError
from anomaly_cli.files.atomic import hash_file, write_text
from anomaly_cli.files.parse import parse_json
from anomaly_cli.files.tensors import read_tensor_file, write_tensor_file
from anomaly_cli.files.versions import library_versions
from models.build import with_weights
from models.config import ConvVAEConfig
from models.conv import conv_vae
from models.objective import Objective
from models.vae import VAE

SCHEMA_VERSION = 1
SCORES_FILE, METRICS_FILE = "scores.json", "metrics.csv"
_KIND = "anomaly_cli_disentangle"
_WRONG = (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError)

Settings = dict[str, Any]  # plain JSON values


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training with its scores."""

    folder: Path
    vae: VAE  # in eval mode on the CPU
    record: Mapping[str, Any]  # content of SCORES_FILE
    scores: DisentanglementScores
    information: NDArray[np.float64]  # (K, D), mutual information of factor and latent in nats
    history: Sequence[StepStats]

    @property
    def entry(self) -> Entry:
        """Method and weight."""
        method = self.record["method"]
        return Entry(method, float(self.record["settings"][weight_name(method)]))

    @property
    def objective(self) -> Objective:
        """All terms of the loss."""
        settings = self.record["settings"]
        weights = {name: settings[name] for name in ("beta", "gamma", "pairs", "map_norm")}
        return Objective(**weights, overlap=settings["lambda"])

    @property
    def seed(self) -> int:
        """Seed of the initial weights, the data and the noise."""
        return int(self.record["settings"]["seed"])

    @property
    def name(self) -> str:
        """Entry and seed, for people."""
        return f"{self.entry.label}, seed {self.seed}"


def is_finished(folder: Path) -> bool:
    """Check whether a training is finished and scored."""
    return (folder / SCORES_FILE).is_file() and not (folder / STATE_FILE).exists()


def is_begun(folder: Path) -> bool:
    """Check whether a training was begun in a folder, even if it was killed before its first state.

    A `metrics.csv` of anything else does not count.
    """
    if (folder / SCORES_FILE).exists() or (folder / STATE_FILE).exists():
        return True
    path = folder / METRICS_FILE
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline().rstrip("\n") == ",".join(StepStats._fields)


def save_vae(path: Path, vae: VAE, model: ConvVAEConfig, settings: Settings) -> None:
    """Write the weights with their settings. Equal content gives equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    header = {"format_version": 1, "model": asdict(model), "settings": settings}
    write_tensor_file(path, vae.state_dict(), header, kind=_KIND)


def load_vae(path: Path) -> VAE:
    """Load a VAE that `save_vae` wrote, in eval mode on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or of another kind.
    """
    try:
        header, tensors = read_tensor_file(path, kind=_KIND)
        model = dict(header["model"])
        config = ConvVAEConfig(**model | {"channels": tuple(model["channels"])})
        vae = with_weights(partial(conv_vae, config), tensors)
    except (SafetensorError, OSError, *_WRONG) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{path} is not a model of disentangle, or is damaged: {reason}"
        ) from error
    return vae.eval()


def write_history(path: Path, history: Sequence[StepStats]) -> None:
    """Write a CSV file with one line per stretch of steps; undefined numbers are empty.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(StepStats._fields)
    for stats in history:
        writer.writerow("" if math.isnan(value) else value for value in stats)
    write_text(path, text.getvalue())


def _read_history(path: Path) -> list[StepStats]:
    kinds = StepStats.__annotations__
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            StepStats(**{name: kinds[name](value or "nan") for name, value in row.items()})
            for row in csv.DictReader(stream)
        ]


def write_scores(
    folder: Path,
    settings: Settings,
    scores: DisentanglementScores,
    information: NDArray[np.float64],
    last: StepStats,
) -> None:
    """Write SCORES_FILE, which marks a run as scored.

    Raises:
        OutputError: the file cannot be written.
    """
    record = {
        "schema_version": SCHEMA_VERSION,
        "method": settings["method"],
        "scores": json_values(scores._asdict()),
        "training": json_values(last._asdict()),
        "mutual_information": information.tolist(),
        "settings": settings,
        "model_sha256": hash_file(folder / MODEL_FILE),
        "versions": library_versions(["numpy"]) | {"torch": torch.__version__},
    }
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / SCORES_FILE, text + "\n")


def load_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        CheckpointError: a file is missing, damaged, or of another version.
    """
    path = folder / SCORES_FILE
    try:
        record = parse_json(path.read_text(encoding="utf-8"))
        values: Any = {k: math.nan if v is None else v for k, v in record["scores"].items()}
        run = Run(
            folder=folder,
            vae=load_vae(folder / MODEL_FILE),
            record=record,
            scores=DisentanglementScores(**values),
            information=np.array(record["mutual_information"], np.float64),
            history=_read_history(folder / METRICS_FILE),
        )
        has_settings = bool(run.name and run.objective)  # which a damaged record lacks
        is_whole = has_settings and bool(run.history) and record["schema_version"] == SCHEMA_VERSION
        is_own = hash_file(folder / MODEL_FILE) == record["model_sha256"]
    except (
        *(OSError, KeyError, TypeError, ValueError),
        *(AttributeError, OverflowError, csv.Error),
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path} is damaged: {reason}; --overwrite starts anew") from error
    if not (is_whole and is_own):
        raise CheckpointError(
            f"{path} is of another version, or {MODEL_FILE} or {METRICS_FILE} beside it is of "
            f"another run; --overwrite starts anew"
        )
    return run


def json_values(values: Mapping[str, float]) -> dict[str, float | None]:
    """Convert numbers to JSON values; undefined ones are null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
