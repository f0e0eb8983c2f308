"""What each table and figure of the paper is made of, once its models are trained."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeGuard

import numpy as np

from anomaly_cli.commands import evaluate as evaluation
from anomaly_cli.commands.paper_results import open_columns
from anomaly_cli.commands.scoring import Sources, score
from anomaly_cli.config.commands import EvaluateConfig, MapConfig
from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.names import RECONSTRUCTION
from anomaly_cli.config.reproduce import TARGETS, ReproduceConfig
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.dsprites import open_dsprites
from anomaly_cli.disentangling.comparison import compare_runs
from anomaly_cli.disentangling.pictures import attention_figure, choose_examples
from anomaly_cli.disentangling.runs import Run, load_run
from anomaly_cli.errors import AnomalyCliError, DataError
from anomaly_cli.evaluation import CategorySource
from anomaly_cli.explanation import FIGURE_TILE, scale_of, shrink
from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.tables import NumberTable
from anomaly_cli.latents import select_latents
from anomaly_cli.localization import localize_files, open_localizer
from anomaly_cli.paper_figures import digit_sheet, frame_sheet
from anomaly_cli.reports.disentanglement import write_report
from anomaly_cli.reproduction.figures import (
    LATENTS,
    TeaserBlock,
    choose_samples,
    defect_sheet,
    teaser,
)
from anomaly_cli.reproduction.stages import (
    METHODS,
    REDUCED_TEST_IMAGES,
    SOURCES,
    Stage,
    folder_of,
)
from anomaly_cli.reproduction.tables import table_1, table_2, table_3
from anomaly_cli.sheets import GAP, below
from models.config import Attention

EXAMPLES = 5  # images of Figure 8, as in the paper


class Trained(NamedTuple):
    """The trainings of a table or figure."""

    stages: Sequence[Stage]  # those that are finished
    failures: Mapping[str, AnomalyCliError]  # by category: what became of the others


class FilledTable(NamedTuple):
    """A table, and what failed of it by category."""

    table: NumberTable
    failures: Mapping[str, AnomalyCliError]


def make_table(target: str, config: ReproduceConfig, trained: Trained) -> FilledTable:
    """Table `target` with our numbers; its evaluation goes to a folder beside it."""
    if target == "table2":
        return _table_2(config, trained)
    return FilledTable((_table_1 if target == "table1" else _table_3)(config, trained), {})


def make_figure(target: str, config: ReproduceConfig, trained: Trained) -> RGBImage:
    """Figure `target` with our models."""
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
    evaluation.run(settings)
    rows = json.loads((settings.output / "table_1.json").read_text(encoding="utf-8"))["rows"]
    of_cameras = {
        stage.category: list(rows[f"{stage.category}, pixel AUROC"].values())
        for stage in trained.stages
        if _is_one_class(stage)
    }
    return table_1(of_cameras, TARGETS["table1"].title)


def _table_2(config: ReproduceConfig, trained: Trained) -> FilledTable:
    settings = _evaluation(config, "table2", trained.stages)
    sources = _sources(settings, trained.stages)
    report = score(sources, settings)
    failures = {failure.category: failure.error for failure in report.failures}
    failures |= trained.failures
    title = TARGETS["table2"].title + (", guided attention" if config.guided else "")
    return FilledTable(table_2(report.rows, failures, title), failures)


def _table_3(config: ReproduceConfig, trained: Trained) -> NumberTable:
    runs = _runs(trained)
    of_methods = {method: [run for run in runs if run.method == method] for method in METHODS}
    factor, attention = (of_methods[method] for method in METHODS[1:])
    differences = compare_runs(factor, attention)
    pairs = [run for pair in zip(factor, attention, strict=True) for run in pair]
    folder = config.folder("table3") / "comparison"
    write_report(folder, pairs, differences, open_dsprites(_sprites_file(trained)))
    scores = {
        method: [run.scores.factor_vae for run in runs] for method, runs in of_methods.items()
    }
    return table_3(scores, differences, TARGETS["table3"].title)


def _figure_1(config: ReproduceConfig, trained: Trained) -> RGBImage:
    return teaser(
        [_teaser_block(config, stage) for stage in trained.stages if _is_one_class(stage)]
    )


def _teaser_block(config: ReproduceConfig, stage: TrainConfig) -> TeaserBlock:
    """The latents with the largest share of the attention (equations 3 and 4) in the samples."""
    settings = MapConfig(source="attention", attention=Attention.GRADCAM, device=config.device)
    localizer = open_localizer(folder_of(stage), settings)
    dataset = DATASETS[stage.dataset]
    samples = choose_samples(dataset.test_samples(stage.data, stage.category))
    results = localize_files(
        [sample.path for sample in samples],
        localizer.maker,
        localizer.spec,
        batch_size=len(samples),
        workers=1,
        with_latents=True,
        decode=dataset.read_image,
    )
    images = []
    for sample, result in zip(samples, results, strict=True):
        if isinstance(result, DataError):
            raise result
        images.append(shrink(sample.name, result, FIGURE_TILE))
    shares = [np.nan_to_num(image.latents.shares) for image in images]
    selection = select_latents(f"top:{LATENTS}", stage.model.latent_dim, localizer.spec)
    latents = selection.choose(np.mean(shares, axis=0))
    name = f"{SOURCES[stage.dataset]}, model of {stage.category}"
    return TeaserBlock(name, images, latents, scale_of(localizer))


def _figure_4(config: ReproduceConfig, trained: Trained) -> RGBImage:
    sources = _open(_evaluation(config, "figure4", trained.stages), trained.stages)
    return below([digit_sheet(source) for source in sources.values()], gap=2 * GAP)


def _figure_5(config: ReproduceConfig, trained: Trained) -> RGBImage:
    settings = _evaluation(config, "figure5", trained.stages)
    columns = open_columns(settings, evaluation.find_models)
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
    """How the models of a table or figure are evaluated; all are of one data set."""
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
    """How to open the models of these trainings, and of no others that lie beside them."""
    found = evaluation.find_models(settings)
    return {stage.category: found[stage.category] for stage in stages if _is_one_class(stage)}


def _open(settings: EvaluateConfig, stages: Sequence[Stage]) -> dict[str, CategorySource]:
    return {name: open_source() for name, open_source in _sources(settings, stages).items()}


def _is_one_class(stage: Stage) -> TypeGuard[TrainConfig]:
    return isinstance(stage, TrainConfig)


def _runs(trained: Trained) -> list[Run]:
    return [load_run(folder_of(stage)) for stage in trained.stages]


def _sprites_file(trained: Trained) -> Path | None:
    return next(s.data for s in trained.stages if isinstance(s, DisentangleConfig))
