"""`reproduce`: make the tables and figures of the paper, with the paper's numbers beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly_cli.commands import disentangle, train
from anomaly_cli.config.reproduce import REDUCED_MARK, TARGETS, ReproduceConfig
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.errors import AnomalyCliError, ConfigError, DeviceError
from anomaly_cli.files.atomic import write_text
from anomaly_cli.files.images import write_png
from anomaly_cli.files.tables import TABLE_FILES, NumberTable
from anomaly_cli.paper.costs import Estimate, report_estimate
from anomaly_cli.paper.costs import estimate as estimate_costs
from anomaly_cli.paper.figures import titled
from anomaly_cli.paper.results import Trained, make_figure, make_table
from anomaly_cli.paper.stages import (
    Stage,
    describe_reduction,
    folder_of,
    is_trained,
    name_of,
    row_of,
    stages_of,
)
from anomaly_cli.progress import SILENT, Progress
from anomaly_cli.training.fit import require_same_training

# Made from the models that succeed; every other target needs all of its models.
_OF_SEVERAL = frozenset({"table2", "table3", "figure1", "figure6"})


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """One reproduced table or figure."""

    target: str
    files: tuple[Path, ...] = ()  # empty if it failed
    table: NumberTable | None = None  # None for a figure
    failures: Mapping[str, AnomalyCliError]  # errors by category, or by the target itself


def estimate(config: ReproduceConfig) -> Estimate:
    """Estimate the needs and costs of the tables and figures; train nothing, write nothing.

    Raises:
        DataError: the data of a table or figure are missing.
    """
    plans = _plan(config)
    stages = _unique(plans)
    rows = estimate_costs(config, stages)
    needs = {target: TARGETS[target].needs for target in plans}
    return Estimate(needs, tuple(rows), _reduction(config, stages))


def run(
    config: ReproduceConfig, resolved: ResolvedSettings | None = None, progress: Progress = SILENT
) -> list[Reproduced]:
    """Train what is not trained yet, then write each table and figure.

    If a table or figure fails, the others are still made. If a category of Table 2 fails, only its
    own rows are missing.

    Raises:
        ConfigError: an existing model was trained with other settings.
        DataError: the data of a table or figure are missing; then nothing is started.
    """
    plans = _plan(config)
    stages = _unique(plans)
    for stage in stages:
        # For dSprites, `disentangle` checks the settings itself.
        if isinstance(stage, TrainConfig) and is_trained(stage):
            require_same_training(folder_of(stage), stage)
    report_estimate(estimate(config), progress)
    errors = _train_each(stages, progress)
    return [_reproduce(config, target, plans[target], errors, resolved) for target in plans]


def _plan(config: ReproduceConfig) -> dict[str, list[Stage]]:
    return {target: stages_of(config, target) for target in dict.fromkeys(config.targets)}


def _unique(plans: Mapping[str, Sequence[Stage]]) -> list[Stage]:
    """List each training once, even if several tables and figures need it."""
    return list({folder_of(s): s for stages in plans.values() for s in stages}.values())


def _reduction(config: ReproduceConfig, stages: Sequence[Stage]) -> str:
    return describe_reduction(stages) if config.reduced else ""


def _train_each(stages: Sequence[Stage], progress: Progress) -> dict[Path, AnomalyCliError]:
    """Train each stage, and return the errors of those that failed, by folder."""
    errors: dict[Path, AnomalyCliError] = {}
    for stage in stages:
        try:
            if isinstance(stage, TrainConfig):
                train.run(stage, progress=progress)
            else:
                disentangle.run(stage, progress=progress)
        except (ConfigError, DeviceError):
            raise  # every training would fail
        except AnomalyCliError as error:
            progress.error(f"{name_of(stage)}: {error}")
            errors[folder_of(stage)] = error
    return errors


def _reproduce(
    config: ReproduceConfig,
    target: str,
    stages: Sequence[Stage],
    errors: Mapping[Path, AnomalyCliError],
    resolved: ResolvedSettings | None,
) -> Reproduced:
    failed = {folder_of(s): errors[folder_of(s)] for s in stages if folder_of(s) in errors}
    done = [stage for stage in stages if folder_of(stage) not in failed]
    if failed and (target not in _OF_SEVERAL or not done):
        return Reproduced(target=target, failures={target: next(iter(failed.values()))})
    names = {folder_of(stage): row_of(stage, target) for stage in stages}
    trained = Trained(done, {names[folder]: error for folder, error in failed.items()})
    try:
        return _write(config, target, trained, resolved)
    except AnomalyCliError as error:
        return Reproduced(target=target, failures={target: error})


def _write(
    config: ReproduceConfig, target: str, trained: Trained, resolved: ResolvedSettings | None
) -> Reproduced:
    stem = config.folder(target) / config.name(target)
    reduced = _reduction(config, trained.stages)
    if target.startswith("table"):
        table, failures = make_table(target, config, trained)
        table = _marked(table, reduced) if reduced else table
        files = [stem.with_name(f"{stem.name}{suffix}") for suffix, _ in TABLE_FILES.values()]
        for file, (_, render) in zip(files, TABLE_FILES.values(), strict=True):
            write_text(file, render(table))
        result = Reproduced(target=target, files=tuple(files), table=table, failures=failures)
    else:
        picture = make_figure(target, config, trained)
        file = stem.with_name(f"{stem.name}.png")
        write_png(file, titled(picture, TARGETS[target].title, reduced))
        result = Reproduced(target=target, files=(file,), failures=trained.failures)
    write_settings(stem.parent, resolved)
    return result


def _marked(table: NumberTable, reduced: str) -> NumberTable:
    notes = (f"{REDUCED_MARK}: {reduced}", *table.notes)
    return table._replace(title=f"{REDUCED_MARK}. {table.title}", notes=notes)


def to_json(config: ReproduceConfig, results: Sequence[Reproduced]) -> dict[str, Any]:
    """Convert the results to plain JSON values; the numbers are in the files."""
    return {
        "reduced": config.reduced,
        "results": [
            {
                "target": result.target,
                "files": [str(path) for path in result.files],
                "failures": {name: str(error) for name, error in result.failures.items()},
            }
            for result in results
        ],
    }
