"""Make the tables and figures of the paper from trained models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeGuard

import numpy as np

from anomaly_cli.config.commands import EvaluateConfig, MapConfig
from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.names import RECONSTRUCTION
from anomaly_cli.config.reproduce import TARGETS, ReproduceConfig
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.predict import explain_prediction
from anomaly_cli.disentangle.comparison import compare_entries
from anomaly_cli.disentangle.dsprites import open_dsprites
from anomaly_cli.disentangle.pictures import attention_figure, choose_examples
from anomaly_cli.disentangle.report import write_report
from anomaly_cli.disentangle.runs import Run, load_run
from anomaly_cli.errors import AnomalyCliError, DataError
from anomaly_cli.evaluation.evaluate import score
from anomaly_cli.evaluation.images import CategorySource, Sources
from anomaly_cli.evaluation.results import CategoryMetrics
from anomaly_cli.evaluation.sources import find_models
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.tables import NumberTable
from anomaly_cli.paper.extras import open_columns, write_frames
from anomaly_cli.paper.figures import (
    LATENTS,
    SAMPLES,
    TeaserBlock,
    choose_samples,
    defect_sheet,
    digit_sheet,
    frame_sheet,
    teaser,
)
from anomaly_cli.paper.stages import (
    REDUCED_TEST_IMAGES,
    SOURCES,
    SYSTEMS,
    Stage,
    categories,
    entries,
    folder_of,
    row_of,
    system_of,
)
from anomaly_cli.paper.tables import table_1, table_2, table_3
from anomaly_cli.pictures.latents import FIGURE_TILE
from anomaly_cli.pictures.layout import GAP, below
from anomaly_cli.training.calibrate import open_detector
from models.config import Attention

EXAMPLES = 5  # images of Figure 8, as in the paper


class Trained(NamedTuple):
    """The trainings of a table or figure."""

    stages: Sequence[Stage]  # finished ones
    failures: Mapping[str, AnomalyCliError]  # errors of the others, by category or name


class FilledTable(NamedTuple):
    """A table, and the errors of the categories that failed."""

    table: NumberTable
    failures: Mapping[str, AnomalyCliError]


def make_table(target: str, config: ReproduceConfig, trained: Trained) -> FilledTable:
    """Make a table with our numbers; its evaluation is written to a folder beside it."""
    if target == "table1":
        return FilledTable(_table_1(config, trained), {})
    return (_table_2 if target == "table2" else _table_3)(config, trained)


def make_figure(target: str, config: ReproduceConfig, trained: Trained) -> RGBImage:
    """Make a figure with our models."""
    makers: dict[str, Callable[[ReproduceConfig, Trained], RGBImage]] = {
        "figure1": _figure_1,
        "figure4": _figure_4,
        "figure5": _figure_5,
        "figure6": _figure_6,
        "figure8": _figure_8,
    }
    return makers[target](config, trained)


def _table_1(config: ReproduceConfig, trained: Trained) -> NumberTable:
    settings = _evaluation(config, "table1", trained.stages)
    score(_sources(settings, trained.stages), settings)
    cameras = [stage.category for stage in trained.stages if _is_one_class(stage)]
    return table_1(write_frames(cameras, settings), TARGETS["table1"].title)


def _table_2(config: ReproduceConfig, trained: Trained) -> FilledTable:
    """Evaluate the models of each method apart; a method that fails costs no other."""
    metrics: dict[str, Sequence[CategoryMetrics]] = {}
    failures = dict(trained.failures)
    stages = [stage for stage in trained.stages if _is_one_class(stage)]
    for system in SYSTEMS:
        own = [stage for stage in stages if system_of(stage) == system]
        if not own:
            continue
        settings = _evaluation(config, "table2", own)
        settings = replace(settings, output=settings.output / system)
        try:
            report = score(_sources(settings, own), settings)
        except AnomalyCliError as error:
            failures |= {row_of(stage, "table2"): error for stage in own}
            continue
        metrics[SYSTEMS[system]] = report.rows
        rows = {stage.category: row_of(stage, "table2") for stage in own}
        failures |= {rows[failure.category]: failure.error for failure in report.failures}
    names = categories(config, "mvtec")
    table = table_2(metrics, names, failures, TARGETS["table2"].title)
    notes = [
        f"Trainings of {name}: "
        f"{'; '.join(_describe_length(stage) for stage in stages if stage.category == name)}."
        for name in names
        if any(stage.category == name for stage in stages)
    ]
    return FilledTable(table._replace(notes=(*table.notes, *notes)), failures)


def _describe_length(stage: TrainConfig) -> str:
    """Describe how long a finished training was, such as `AE-L2 495 steps of 16 images, 256 px`."""
    record = load_model(folder_of(stage)).record
    name, batch = SYSTEMS[system_of(stage)], stage.batch_size
    steps = record.training["finished_epochs"] * max(1, record.data["fit"] // batch)
    return f"{name} {steps:,} steps of {batch} images, {record.model.image_size} px"


def _table_3(config: ReproduceConfig, trained: Trained) -> FilledTable:
    runs = _runs(trained)
    comparison = compare_entries(entries(config), runs)
    folder = config.folder("table3") / "comparison"
    sprites = open_dsprites(_sprites_file(trained))
    write_report(folder, runs, comparison, sprites, trained.failures)
    table = table_3(comparison, trained.failures, TARGETS["table3"].title)
    return FilledTable(table, trained.failures)


def _figure_1(config: ReproduceConfig, trained: Trained) -> RGBImage:
    return teaser(
        [_teaser_block(config, stage) for stage in trained.stages if _is_one_class(stage)]
    )


def _teaser_block(config: ReproduceConfig, stage: TrainConfig) -> TeaserBlock:
    """Explain a few samples of one model for Figure 1.

    The latents are those with the largest mean share of the attention (equations 3 and 4).
    """
    settings = MapConfig(source="attention", attention=Attention.GRADCAM, device=config.device)
    detector = open_detector(
        folder_of(stage), replace(settings, batch_size=SAMPLES, workers=1), data=stage.data
    )
    dataset = DATASETS[stage.dataset]
    samples = choose_samples(dataset.test_samples(stage.data, stage.category))
    paths = [sample.path for sample in samples]
    results = detector.predict_all(paths, with_latents=True, decode=dataset.read_image)
    images = []
    for sample, result in zip(samples, results, strict=True):
        if isinstance(result, DataError):
            raise result
        images.append(explain_prediction(result, sample.name, FIGURE_TILE))
    shares = [np.nan_to_num(image.shares) for image in images]
    latents = detector.select_latents(f"top:{LATENTS}").choose(np.mean(shares, axis=0))
    name = f"{SOURCES[stage.dataset]}, model of {stage.category}"
    return TeaserBlock(name, images, latents, detector.scale)


def _figure_4(config: ReproduceConfig, trained: Trained) -> RGBImage:
    sources = _open(_evaluation(config, "figure4", trained.stages), trained.stages)
    return below([digit_sheet(source) for source in sources.values()], gap=2 * GAP)


def _figure_5(config: ReproduceConfig, trained: Trained) -> RGBImage:
    settings = _evaluation(config, "figure5", trained.stages)
    columns = open_columns(settings)
    cameras = [stage.category for stage in trained.stages if _is_one_class(stage)]
    sheets = []
    for name in cameras:
        sources = {column: models[name]() for column, models in columns.items()}
        titles = (
            column if column == RECONSTRUCTION else f"attention {column}" for column in sources
        )
        sheets.append(frame_sheet(dict(zip(titles, sources.values(), strict=True))))
    return below(sheets, gap=2 * GAP)


def _figure_6(config: ReproduceConfig, trained: Trained) -> RGBImage:
    return defect_sheet(_open(_evaluation(config, "figure6", trained.stages), trained.stages))


def _figure_8(config: ReproduceConfig, trained: Trained) -> RGBImage:  # noqa: ARG001 - as the others
    factor, attention = _runs(trained)
    sprites = open_dsprites(_sprites_file(trained))
    images = sprites.images(choose_examples(sprites, EXAMPLES))
    return attention_figure([attention, factor], images)


def _evaluation(config: ReproduceConfig, target: str, stages: Sequence[Stage]) -> EvaluateConfig:
    """Make the settings to evaluate the models of a table or figure, all of one data set."""
    (stage, *_) = (stage for stage in stages if _is_one_class(stage))
    return EvaluateConfig(
        runs=stage.output,
        dataset=stage.dataset,
        data=stage.data,
        output=config.folder(target) / "evaluation",
        limit=REDUCED_TEST_IMAGES if config.reduced else None,
        replicates=0 if config.reduced else EvaluateConfig.replicates,
        seed=config.seed,
        map=MapConfig(device=config.device),
        overwrite=True,
    )


def _sources(settings: EvaluateConfig, stages: Sequence[Stage]) -> Sources:
    """Find the models of these trainings only, without others in the same folder."""
    found = find_models(settings)
    return {stage.category: found[stage.category] for stage in stages if _is_one_class(stage)}


def _open(settings: EvaluateConfig, stages: Sequence[Stage]) -> dict[str, CategorySource]:
    return {name: open_source() for name, open_source in _sources(settings, stages).items()}


def _is_one_class(stage: Stage) -> TypeGuard[TrainConfig]:
    return isinstance(stage, TrainConfig)


def _runs(trained: Trained) -> list[Run]:
    return [load_run(folder_of(stage)) for stage in trained.stages]


def _sprites_file(trained: Trained) -> Path | None:
    return next(s.data for s in trained.stages if isinstance(s, DisentangleConfig))
