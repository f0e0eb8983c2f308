"""`evaluate`: score models or saved maps on their test splits, and write a report."""

from functools import partial

from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.config.values import check_config
from anomaly_cli.detector.team import Team
from anomaly_cli.evaluation.comparison import Comparison, compare_reports
from anomaly_cli.evaluation.evaluate import CountImages, score
from anomaly_cli.evaluation.images import Sources, count_images
from anomaly_cli.evaluation.reports.comparison import write_comparison
from anomaly_cli.evaluation.results import EvaluationReport
from anomaly_cli.evaluation.saved_maps import find_maps
from anomaly_cli.evaluation.team import TeamCounter, serve
from anomaly_cli.files.lock import open_output_folder
from anomaly_cli.progress import SILENT, Progress


def evaluate(config: EvaluateConfig, *, progress: Progress = SILENT) -> EvaluationReport:
    """Score models, or saved maps, on their test splits, as `anomaly-cli evaluate` does.

    The report's files are written to `config.output`.

    Args:
        config: `EvaluateConfig(data=..., runs=..., output=...)`.
        progress: shows bars and messages; by default nothing is printed.

    Returns:
        Metrics of each category in `.rows`, means in `.means()`; each in [0, 1], NaN if undefined.

    Raises:
        ConfigError: a setting is invalid, or there is no model of the category. It is also a
            ValueError.
        ConfigTypeError: the argument is not an `EvaluateConfig`. It is also a TypeError.
        CheckpointError: there is no model, or it cannot be read.
        DataError: a test split, a map or the baseline cannot be used.
        OutputError: the report cannot be written.
    """
    return run(check_config(config, EvaluateConfig), progress=progress)


def compare(config: EvaluateConfig, resolved: ResolvedSettings | None = None) -> Comparison:
    """Compare two reports, and write the comparison to `config.output`.

    Raises:
        DataError: a report cannot be read, or the test images differ.
        OutputError: the comparison cannot be written.
    """
    assert config.compare is not None  # noqa: S101 - the caller has checked it
    comparison = compare_reports(*config.compare)
    with open_output_folder(config.output, overwrite=config.overwrite):
        write_comparison(config.output, comparison)
        write_settings(config.output, resolved)
    return comparison


def run_in_team(
    config: EvaluateConfig,
    team: Team,
    resolved: ResolvedSettings | None = None,
    progress: Progress = SILENT,
) -> EvaluationReport | None:
    """Evaluate with all processes of a launcher.

    Returns:
        The report in the first process, which writes it; None in the others.
    """
    if team.rank > 0:
        serve(partial(_find_sources, config, progress), team)
        return None
    counter = TeamCounter(team, config.map.batch_size)
    try:
        return run(config, resolved, progress, counter)
    finally:
        counter.end()


def _find_sources(config: EvaluateConfig, progress: Progress) -> Sources:
    if config.maps is not None:
        return find_maps(config)
    from anomaly_cli.evaluation.sources import find_models  # noqa: PLC0415 - loads torch

    return find_models(config, progress)


def run(
    config: EvaluateConfig,
    resolved: ResolvedSettings | None = None,
    progress: Progress = SILENT,
    count: CountImages = count_images,
) -> EvaluationReport:
    """Score each category, and write the report and the `resolved` settings. See `evaluate`."""
    report = score(_find_sources(config, progress), config, resolved, progress, count)
    if config.maps is not None:
        return report
    # These modules load torch, which saved maps do not need.
    from anomaly_cli.evaluation.baselines import write_baselines  # noqa: PLC0415
    from anomaly_cli.paper.extras import write_paper_results  # noqa: PLC0415

    for row in report.rows:
        if row.lacks:
            progress.warn(f"{row.category}: {row.lacks}")
    write_paper_results(report, config, progress)
    if config.baselines:
        write_baselines(report.rows, config, progress)
    return report
