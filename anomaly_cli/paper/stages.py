"""The trainings behind the tables and figures of the paper, and where their data lie."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.names import DatasetName
from anomaly_cli.config.objectives import METHODS, TABLE_3, Entry, table_3_entries, weight_name
from anomaly_cli.config.presets import read_preset
from anomaly_cli.config.reproduce import ReproduceConfig
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.download.sources import DSPRITES_FILE
from anomaly_cli.data.mnist import find_file
from anomaly_cli.errors import DataError
from anomaly_cli.training.fit import is_finished
from models.config import COMPARED, Attention, MethodName

Stage = TrainConfig | DisentangleConfig  # one training: of one category, or of one method and seed

# Rows of each category in Table 2: the methods by name, the paper's VAE, and what `train` does.
PAPER, DEFAULT = "paper", "default"
SYSTEMS: Mapping[str, str] = {
    "ae-ssim": "AE-SSIM",
    "ae-l2": "AE-L2",
    "anogan": "AnoGAN",
    "feature-dictionary": "CNN feature dictionary",
    PAPER: "VAE attention, as in the paper",
    DEFAULT: "default of train",
}
_FOLDERS = {PAPER: "mvtec", DEFAULT: "mvtec-guided"}  # of models; others have the method's name

DIGITS = ("1", "3")  # of Figure 4
FIGURE_6 = ("wood", "tile", "leather", "hazelnut", "pill", "metal_nut")  # in the paper's order

# Settings of a reduced run, which takes seconds: its results do not represent the method.
REDUCED_CATEGORIES = 2  # of MVTec AD
REDUCED_SEEDS = 2  # of Table 3
REDUCED_TEST_IMAGES = 4  # of each defect type
_REDUCED: dict[str, dict[str, int]] = {
    "mvtec": {"image_size": 64, "epochs": 2, "batch_size": 8, "limit": 48},
    "anogan": {"search_steps": 5},
    "mnist": {"epochs": 2, "batch_size": 32, "limit": 320},
    # The 1024 hidden units have 75 million weights, which are most of the network's cost.
    "ucsd": {"hidden": 64, "epochs": 2, "batch_size": 8, "limit": 32},
}
_REDUCED_SPRITES = {"steps": 20, "batch_size": 16, "score_images": 1000}

_IN_WORDS = {
    "image_size": "image size",
    "hidden": "hidden units",
    "epochs": "epochs",
    "batch_size": "batch size",
    "limit": "training images",
    "steps": "steps",
    "score_images": "scored images",
}
# Data sets of each target; one of them is enough.
_DATASETS: dict[str, tuple[DatasetName, ...]] = {
    "table1": ("ucsd",),
    "table2": ("mvtec",),
    "figure1": ("mnist", "ucsd", "mvtec"),
    "figure4": ("mnist",),
    "figure5": ("ucsd",),
    "figure6": ("mvtec",),
}
SOURCES: dict[str, str] = {"mvtec": "MVTec AD", "mnist": "MNIST", "ucsd": "UCSD pedestrians"}
_PLACES = {
    "mvtec": "mvtec/<category>/train/good",
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
    "ucsd": "ucsd/UCSDped1/Train",
}


def data_root(config: ReproduceConfig, dataset: DatasetName) -> Path | None:
    """Find the folder that `train --data` takes; None if the data set is missing."""
    if dataset == "mnist":
        try:
            find_file(config.data, "train", "images")
        except DataError:
            return None
        return config.data
    folder = config.data / dataset
    if dataset == "mvtec":
        return folder if any(folder.glob("*/train/good")) else None
    for root in (folder, folder / "UCSD_Anomaly_Dataset.v1p2"):  # the second as published
        if any(root.glob("UCSDped*/Train")):
            return root
    return None


def require_data(config: ReproduceConfig, target: str, datasets: Sequence[DatasetName]) -> None:
    """Require that at least one of the data sets is present.

    Raises:
        DataError: none is; the message names the expected folder and the command to get it.
    """
    if all(data_root(config, dataset) is None for dataset in datasets):
        wanted = " or ".join(f"{config.data / _PLACES[d]} ({SOURCES[d]})" for d in datasets)
        commands = " or ".join(f"anomaly-cli download {d} --output {config.data}" for d in datasets)
        raise DataError(f"{target} needs {wanted}, which is not there; get it with {commands}")


def stages_of(config: ReproduceConfig, target: str) -> list[Stage]:
    """List the trainings that a table or figure needs.

    Raises:
        DataError: its data are missing.
    """
    if target == "table3":
        return [sprite_stage(config, entry, s) for s in seeds(config) for entry in entries(config)]
    if target == "figure8":
        pair = best_entries()[1:]  # FactorVAE and AD-FactorVAE
        return [sprite_stage(config, entry, config.seed) for entry in pair]
    require_data(config, target, _DATASETS[target])
    if target == "figure1":
        return _teaser(config)
    (dataset,) = _DATASETS[target]
    if target == "figure4":
        return _one_class(config, dataset, DIGITS)
    if target == "table2":
        return [
            one_class_stage(config, dataset, name, system)
            for name in categories(config, dataset)
            for system in SYSTEMS
        ]
    names = figure_6_categories if target == "figure6" else partial(categories, dataset=dataset)
    return _one_class(config, dataset, names(config))


def entries(config: ReproduceConfig) -> list[Entry]:
    """List the entries of Table 3, the reference first; of a reduced run, one for each method."""
    best = best_entries()
    return [e for e in table_3_entries() if e in best or not config.reduced]


def best_entries() -> list[Entry]:
    """List the methods of Table 3, each with its best weight in the paper."""
    return [Entry(method, getattr(METHODS[method], weight_name(method))) for method in TABLE_3]


def seeds(config: ReproduceConfig) -> range:
    """List the seeds of Table 3."""
    count = min(config.seeds, REDUCED_SEEDS) if config.reduced else config.seeds
    return range(config.seed, config.seed + count)


def categories(config: ReproduceConfig, dataset: DatasetName) -> list[str]:
    """List the categories found; for a reduced run, a few of MVTec AD or one camera of UCSD."""
    root = data_root(config, dataset)
    found = DATASETS[dataset].select_categories(root, "all") if root else []
    if not config.reduced:
        return found
    return found[: 1 if dataset == "ucsd" else REDUCED_CATEGORIES]


def figure_6_categories(config: ReproduceConfig) -> list[str]:
    """List the categories of Figure 6 that are found; if none is, the first six."""
    found = categories(config, "mvtec")
    return [name for name in FIGURE_6 if name in found] or found[: len(FIGURE_6)]


def _teaser(config: ReproduceConfig) -> list[Stage]:
    """List the trainings of Figure 1: one model of each data set that is present."""
    chosen: dict[DatasetName, list[str]] = {
        "mnist": list(DIGITS[-1:]) if data_root(config, "mnist") else [],
        "ucsd": categories(config, "ucsd")[:1],
        "mvtec": figure_6_categories(config)[:1],
    }
    return [
        stage for dataset, names in chosen.items() for stage in _one_class(config, dataset, names)
    ]


def _one_class(config: ReproduceConfig, dataset: DatasetName, names: Iterable[str]) -> list[Stage]:
    return [one_class_stage(config, dataset, name) for name in names]


def one_class_stage(
    config: ReproduceConfig, dataset: DatasetName, category: str, system: str | None = None
) -> TrainConfig:
    """Make the training of one category; it can be resumed.

    Args:
        config: settings of the command.
        dataset: if it is not MVTec AD, its preset decides the settings.
        category: to learn.
        system: one of `SYSTEMS`, for MVTec AD; None: the paper's, or the default with `guided`.
    """
    folder: str = dataset
    options: dict[str, Any]
    if dataset == "mvtec":
        system = system or (DEFAULT if config.guided else PAPER)
        folder = _FOLDERS.get(system, f"{dataset}-{system}")
        options = _options_of(config, system)
    else:
        preset = read_preset(dataset)
        options = {name.replace("-", "_"): value for name, value in preset.items()}
        if config.reduced:
            options |= _REDUCED[dataset]
    if "attention" in options:
        options["attention"] = Attention(options["attention"])
    options |= {"dataset": dataset, "data": data_root(config, dataset) or config.data}
    return TrainConfig.resolve(
        category=category,
        output=config.root / "runs" / folder,
        seed=config.seed,
        device=config.device,
        resume=True,
        **options,
    )


def _options_of(config: ReproduceConfig, system: str) -> dict[str, Any]:
    """List the options of `train` of one of `SYSTEMS`."""
    options: dict[str, Any] = read_preset("paper")["train"] if system == PAPER else {}
    if system == PAPER and config.paper_epochs is not None:
        options["epochs"] = config.paper_epochs
    if system in COMPARED:
        options["method"] = system
    if config.reduced:
        options |= _REDUCED["mvtec"] | _REDUCED.get(system, {})
        if system == "feature-dictionary":
            del options["epochs"]  # it has one
    return options


def system_of(stage: TrainConfig) -> str:
    """Name the row of Table 2 of a training on MVTec AD, a key of `SYSTEMS`."""
    method: MethodName = stage.model.method
    if method in COMPARED:
        return method
    return DEFAULT if stage.guidance == "synthetic" else PAPER


def sprite_stage(config: ReproduceConfig, entry: Entry, seed: int) -> DisentangleConfig:
    """Make the training of one entry on dSprites with one seed; it can be resumed."""
    file = config.data / "dsprites" / DSPRITES_FILE
    settings = DisentangleConfig(
        data=file if file.is_file() else None,
        output=config.root / "runs" / "dsprites",
        device=config.device,
        resume=True,
        overwrite=True,  # files from an interruption before the first saved state
    )
    stage = settings.training(entry, seed)
    return replace(stage, **_REDUCED_SPRITES) if config.reduced else stage  # type: ignore[arg-type]


def describe_reduction(stages: Iterable[Stage]) -> str:
    """Describe the settings of these trainings of a reduced run."""
    kinds = dict.fromkeys(s.dataset if isinstance(s, TrainConfig) else "dsprites" for s in stages)
    numbers = {**_REDUCED, "dsprites": _REDUCED_SPRITES}
    parts = []
    for kind in kinds:
        words = [f"{_IN_WORDS[name]} {value:,}" for name, value in numbers[kind].items()]
        parts.append(f"{SOURCES.get(kind, 'dSprites')} with {', '.join(words)}")
    return f"{'; '.join(parts)}. It shows that everything runs, not what the method reaches."


def folder_of(stage: Stage) -> Path:
    """Build the path of the folder to which a training writes its model."""
    return stage.output / stage.category if isinstance(stage, TrainConfig) else stage.output


def name_of(stage: Stage) -> str:
    """Name a training, for messages."""
    if isinstance(stage, TrainConfig):
        system = system_of(stage)
        suffix = "" if system == PAPER else f" {system}"
        return f"{stage.dataset} {stage.category}{suffix}"
    return f"dsprites {stage.entries[0].label} seed {stage.seed}"


def row_of(stage: Stage, target: str) -> str:
    """Name a training among those of one table or figure."""
    if not isinstance(stage, TrainConfig):
        return stage.name
    return (
        f"{stage.category}, {SYSTEMS[system_of(stage)]}" if target == "table2" else stage.category
    )


def is_trained(stage: Stage) -> bool:
    """Check whether a training is finished; on dSprites, scored as well."""
    folder = folder_of(stage)
    is_scored = isinstance(stage, TrainConfig) or (folder / "scores.json").is_file()
    return is_finished(folder) and is_scored
