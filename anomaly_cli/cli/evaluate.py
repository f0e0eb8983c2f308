"""Options of `evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.cli.addresses import with_local_inputs, with_local_output
from anomaly_cli.cli.processes import run_in_processes
from anomaly_cli.cli.sources import resolve_settings
from anomaly_cli.config.commands import EvaluateConfig, MapConfig
from anomaly_cli.config.names import Counting, MaskResizing, Resolution
from anomaly_cli.config.values import parse_formats, parse_image_score
from anomaly_cli.errors import GateError
from anomaly_cli.files.address import parse_place

if TYPE_CHECKING:
    from anomaly_cli.evaluation.comparison import Comparison
    from anomaly_cli.evaluation.results import EvaluationReport

EVALUATE, MAP = EvaluateConfig(), MapConfig()
_NAMED_ROWS = 5  # unmet bars that the error message lists; the table has all


def evaluate(
    ctx: typer.Context,
    model: Annotated[
        Path | None,
        typer.Option(
            parser=parse_place,
            metavar="<path>",
            help="Model file, instead of all models in --runs; or its address, s3://...",
        ),
    ] = EVALUATE.model,
    runs: Annotated[
        Path,
        typer.Option(
            parser=parse_place,
            metavar="<path>",
            help="Folder of trained models; or its address, s3://...",
        ),
    ] = EVALUATE.runs,
    maps: Annotated[
        Path | None,
        typer.Option(
            help="Folder of saved maps of any tool, instead of models: <category>/test/<defect "
            "type>/<image>, as TIFF, NPY or 16-bit PNG."
        ),
    ] = EVALUATE.maps,
    dataset: option.DatasetOption = EVALUATE.dataset,
    data: option.Data = EVALUATE.data,
    category: option.Category = EVALUATE.category,
    output: option.OutputPlace = EVALUATE.output,
    formats: Annotated[
        str, typer.Option("--format", help="Formats of the report, separated by commas.")
    ] = ",".join(EVALUATE.formats),
    image_score: Annotated[
        str,
        typer.Option(
            help="Anomaly score of an image: max, or top:SHARE (mean of the highest values)."
        ),
    ] = str(EVALUATE.image_score),
    good: Annotated[
        bool, typer.Option(help="Include the normal images of the test split.")
    ] = EVALUATE.good,
    resolution: Annotated[
        Resolution | None,
        typer.Option(
            help="Resolution at which maps and masks are compared.",
            show_default="network; original with --maps",
        ),
    ] = EVALUATE.resolution,
    mask_resizing: Annotated[
        MaskResizing,
        typer.Option(
            help="How masks get the network's size. nearest: the nearest pixel. area: each region "
            "keeps its share of the image, and none vanishes."
        ),
    ] = EVALUATE.mask_resizing,
    counting: Annotated[
        Counting,
        typer.Option(
            help="exact: keep all pixels of a category. streaming: keep histograms, in constant "
            "memory, and report a range that holds each exact metric."
        ),
    ] = EVALUATE.counting,
    replicates: Annotated[
        int, typer.Option(help="Bootstrap replicates for the 95% intervals; 0 for none.")
    ] = EVALUATE.replicates,
    gallery: Annotated[
        int,
        typer.Option(help="Number of worst misses, and of worst false alarms, in the HTML report."),
    ] = EVALUATE.gallery,
    seed: option.Seed = EVALUATE.seed,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CATEGORY:]METRIC=VALUE",
            help="Exit with code 10 if the metric is lower. CATEGORY: a category, or textures, "
            "objects or all for a mean. Repeatable.",
        ),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="Also evaluate the baselines |x - x^|, SSIM and centre prior."
        ),
    ] = EVALUATE.baselines,
    baseline: Annotated[
        Path | None, typer.Option(help="Earlier report.json: exit with code 10 if a metric drops.")
    ] = EVALUATE.baseline,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="FIRST SECOND",
            help="Compare two reports on the same test images, instead of models: differences "
            "with intervals, by category and defect type.",
        ),
    ] = EVALUATE.compare,
    max_drop: Annotated[
        float, typer.Option(help="Largest allowed drop of a metric below --baseline.")
    ] = EVALUATE.max_drop,
    exit_zero: Annotated[
        bool,
        typer.Option("--exit-zero", help="Report bars that are not met, but exit with code 0."),
    ] = False,
    source: option.Source = MAP.source,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    scores: option.ModelScores = MAP.scores,
    threshold: option.Threshold = None,
    outline: option.Outline = None,
    batch_size: option.BatchSize = MAP.batch_size,
    workers: option.Threads = MAP.workers,
    device: option.Device = MAP.device,
    overwrite: option.Overwrite = EVALUATE.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Evaluate models, or saved maps, on their test splits: metrics, intervals, bars, a report."""
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.commands import evaluate as command

    config = EvaluateConfig(
        model=model,
        runs=runs,
        maps=maps,
        dataset=dataset,
        data=data,
        category=category,
        output=output,
        formats=parse_formats(formats),
        image_score=parse_image_score(image_score),
        good=good,
        resolution=resolution,
        mask_resizing=mask_resizing,
        counting=counting,
        replicates=replicates,
        gallery=gallery,
        seed=seed,
        fail_under=tuple(fail_under or ()),
        baselines=baselines,
        baseline=baseline,
        compare=compare,
        max_drop=max_drop,
        map=option.map_config(
            source=source,
            attention=attention,
            layer=target_layer,
            scores=scores,
            threshold=threshold,
            outline=outline,
            batch_size=batch_size,
            workers=workers,
            device=device,
        ),
        overwrite=overwrite,
    )
    settings, progress = resolve_settings(ctx), TerminalProgress()
    if config.compare is not None:
        with with_local_output(config) as own:
            comparison = run_in_processes(
                device,
                lambda: command.compare(own, settings),
                lambda team: command.compare(own, settings) if team.rank == 0 else None,
            )
        if comparison is not None:
            _show_comparison(comparison, config, json=json)
        return
    with with_local_output(with_local_inputs(config, progress)) as own:
        report = run_in_processes(
            device,
            lambda: command.run(own, settings, progress),
            lambda team: command.run_in_team(own, team, settings, progress),
        )
    if report is not None:
        _show(report, config, json=json)
        _judge(report, exit_zero=exit_zero)


def _show(report: "EvaluationReport", config: EvaluateConfig, *, json: bool) -> None:
    from anomaly_cli.cli.show.evaluation import show_evaluation
    from anomaly_cli.evaluation.reports.machine import to_json
    from anomaly_cli.evaluation.reports.write import file_names

    if json:
        terminal.print_json(to_json(report))
        return
    show_evaluation(report)
    written = ", ".join(file_names(config.formats))
    terminal.note(f"written to {config.output} ({written})")


def _show_comparison(comparison: "Comparison", config: EvaluateConfig, *, json: bool) -> None:
    from anomaly_cli.cli.show.evaluation import show_comparison
    from anomaly_cli.evaluation.reports.comparison import FILES, to_json

    if json:
        terminal.print_json(to_json(comparison))
        return
    show_comparison(comparison)
    terminal.note(f"written to {config.output} ({', '.join(FILES)})")


def _judge(report: "EvaluationReport", *, exit_zero: bool) -> None:
    """Raise the error that decides the exit code: of a failed category, else of unmet bars."""
    from anomaly_cli.evaluation.reports.wording import verdict

    failed = [gate for gate in report.gates if not gate.is_met]
    if failed:
        rows = "; ".join(verdict(gate) for gate in failed[:_NAMED_ROWS])
        more = f"; and {len(failed) - _NAMED_ROWS} more" if len(failed) > _NAMED_ROWS else ""
        message = f"{len(failed)} of {len(report.gates)} bars are not met: {rows}{more}"
        if not exit_zero and not report.failures:
            raise GateError(message)
        terminal.warn(message)
    if report.failures:
        first = report.failures[0].error
        names = ", ".join(failure.category for failure in report.failures)
        count = len(report.failures) + len(report.results)
        raise type(first)(f"{len(report.failures)} of {count} categories failed: {names}")
