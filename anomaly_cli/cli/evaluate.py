"""Options of `evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.cli.configuration import resolve_settings
from anomaly_cli.config.commands import EvaluateConfig, MapConfig
from anomaly_cli.config.names import Counting, Resolution
from anomaly_cli.config.toml import ResolvedSettings
from anomaly_cli.errors import GateError

if TYPE_CHECKING:
    from anomaly_cli.reports.results import EvaluationReport

EVALUATE, MAP = EvaluateConfig(), MapConfig()
_NAMED_ROWS = 5  # failing bars in the message; the table has all


def evaluate(
    ctx: typer.Context,
    model: Annotated[
        Path | None, typer.Option(help="One model, instead of all models of --runs.")
    ] = EVALUATE.model,
    runs: Annotated[Path, typer.Option(help="What train wrote.")] = EVALUATE.runs,
    maps: Annotated[
        Path | None,
        typer.Option(
            help="Saved maps of any tool instead of models: <category>/test/<defect type>/<image>, "
            "as TIFF, NPY or 16-bit PNG."
        ),
    ] = EVALUATE.maps,
    dataset: option.DatasetOption = EVALUATE.dataset,
    data: option.Data = EVALUATE.data,
    category: option.Category = EVALUATE.category,
    output: option.Output = EVALUATE.output,
    formats: Annotated[
        str, typer.Option("--format", help="Files of the report, by comma.")
    ] = EVALUATE.formats,
    image_score: Annotated[
        str, typer.Option(help="Image score: max, or top:SHARE (mean of the highest values).")
    ] = EVALUATE.image_score,
    good: Annotated[
        bool, typer.Option(help="Whether normal images of the test split take part.")
    ] = EVALUATE.good,
    resolution: Annotated[
        Resolution | None,
        typer.Option(
            help="Where maps and masks are compared.", show_default="network; original with --maps"
        ),
    ] = EVALUATE.resolution,
    counting: Annotated[
        Counting,
        typer.Option(
            help="exact keeps all pixels of a category. streaming keeps histograms, in memory that "
            "does not grow with the images, and tells how far each metric may be off."
        ),
    ] = EVALUATE.counting,
    replicates: Annotated[
        int, typer.Option(help="Draws of the images behind the 95% intervals; 0 for none.")
    ] = EVALUATE.replicates,
    gallery: Annotated[
        int, typer.Option(help="Worst misses, and as many false alarms, in the HTML report.")
    ] = EVALUATE.gallery,
    seed: option.Seed = EVALUATE.seed,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CATEGORY:]METRIC=VALUE",
            help="Exit with 10 if the metric is lower; CATEGORY may be textures, objects or all, "
            "for a mean. May be given several times.",
        ),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="Also score the model's |x - x^|, SSIM and a centre prior."
        ),
    ] = EVALUATE.baselines,
    baseline: Annotated[
        Path | None, typer.Option(help="An older report.json: exit with 10 on a drop.")
    ] = EVALUATE.baseline,
    max_drop: Annotated[
        float, typer.Option(help="How far a metric may lie below the baseline.")
    ] = EVALUATE.max_drop,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Report bars that are not met, but exit with 0.")
    ] = False,
    source: option.Source = MAP.source,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    scores: option.ModelScores = MAP.scores,
    threshold: option.Threshold = MAP.threshold,
    outline: option.Outline = MAP.outline,
    batch_size: option.BatchSize = MAP.batch_size,
    workers: option.Threads = MAP.workers,
    device: option.Device = MAP.device,
    overwrite: option.Overwrite = EVALUATE.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Score models, or saved maps, on their test splits: metrics, intervals, bars and a report."""
    config = EvaluateConfig(
        model=model,
        runs=runs,
        maps=maps,
        dataset=dataset,
        data=data,
        category=category,
        output=output,
        formats=formats,
        image_score=image_score,
        good=good,
        resolution=resolution,
        counting=counting,
        replicates=replicates,
        gallery=gallery,
        seed=seed,
        fail_under=tuple(fail_under or ()),
        baselines=baselines,
        baseline=baseline,
        max_drop=max_drop,
        map=option.map_config(
            source,
            attention,
            target_layer,
            scores,
            threshold,
            outline,
            batch_size,
            workers,
            device,
        ),
        overwrite=overwrite,
    )
    report = _run(config, resolve_settings(ctx))
    _show(report, config, json=json)
    _judge(report, exit_zero=exit_zero)


def _run(config: EvaluateConfig, resolved: ResolvedSettings) -> "EvaluationReport":
    if config.maps is not None:
        from anomaly_cli.commands import evaluate_maps  # loads no torch

        return evaluate_maps.run(config, resolved)
    from anomaly_cli.commands import evaluate as evaluate_models

    return evaluate_models.run(config, resolved)


def _show(report: "EvaluationReport", config: EvaluateConfig, *, json: bool) -> None:
    from anomaly_cli.reports.machine import to_json
    from anomaly_cli.reports.write import file_names, parse_formats

    if json:
        console.print_json(to_json(report))
        return
    console.show_evaluation(report)
    written = ", ".join(file_names(parse_formats(config.formats)))
    console.note(f"written to {config.output} ({written})")


def _judge(report: "EvaluationReport", *, exit_zero: bool) -> None:
    """A category that failed decides the exit code; bars do so only where none did."""
    from anomaly_cli.reports.wording import verdict

    failed = [gate for gate in report.gates if not gate.is_met]
    if failed:
        rows = "; ".join(verdict(gate) for gate in failed[:_NAMED_ROWS])
        more = f"; and {len(failed) - _NAMED_ROWS} more" if len(failed) > _NAMED_ROWS else ""
        message = f"{len(failed)} of {len(report.gates)} bars are not met: {rows}{more}"
        if not exit_zero and not report.failures:
            raise GateError(message)
        console.warn(message)
    if report.failures:
        first = report.failures[0].error
        names = ", ".join(failure.category for failure in report.failures)
        count = len(report.failures) + len(report.results)
        raise type(first)(f"{len(report.failures)} of {count} categories failed: {names}")
