"""`disentangle`: train VAEs on dSprites, score their latents, and write a report."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.names import MODEL_FILE, STATE_FILE
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.detector.device import resolve_device, seed_everything
from anomaly_cli.disentangle.comparison import Comparison, compare_entries
from anomaly_cli.disentangle.costs import ComparisonCost, remaining_work, report_costs
from anomaly_cli.disentangle.costs import estimate as estimate_costs
from anomaly_cli.disentangle.dsprites import SpriteImages, open_dsprites
from anomaly_cli.disentangle.report import comparison_document, write_report
from anomaly_cli.disentangle.runs import (
    METRICS_FILE,
    SCORES_FILE,
    Run,
    Settings,
    is_begun,
    is_finished,
    load_run,
    save_vae,
    write_history,
    write_scores,
)
from anomaly_cli.disentangle.scoring import BATCH, Scored, encode_images, score_codes, select_images
from anomaly_cli.disentangle.training import StepStats, Trainer
from anomaly_cli.errors import AnomalyCliError, CheckpointError, OutputError, TrainingError
from anomaly_cli.files.atomic import prepare_output_folder, remove_partial_files
from anomaly_cli.files.lock import lock_folder
from anomaly_cli.files.tensors import read_state
from anomaly_cli.progress import SILENT, Progress
from anomaly_cli.training.resume import require_same_settings, resume_training, save_state
from models.conv import conv_vae

SAVE_EVERY = 30.0  # seconds; an interruption loses no more than this
_LINES = 20  # progress messages of one training, if there is no terminal


class DisentangleResult(NamedTuple):
    """The result of `disentangle`: trained models, and their comparison."""

    output: Path
    runs: Sequence[Run]
    comparison: Comparison | None = None  # None for a single training
    failures: Mapping[str, AnomalyCliError] = {}  # errors of failed trainings, by name

    @property
    def document(self) -> dict[str, Any]:
        """Plain JSON values: of the comparison, or without one, the content of SCORES_FILE."""
        if self.comparison:
            return comparison_document(self.comparison, self.failures)
        return dict(self.runs[0].record)

    def raise_failures(self) -> None:
        """Raise an error of the kind of the first failure, if any, that names all of them."""
        if self.failures:
            first = next(iter(self.failures.values()))
            names = "; ".join(self.failures)
            raise type(first)(f"{len(self.failures)} failed: {names}; first error: {first}")


def estimate(config: DisentangleConfig) -> ComparisonCost:
    """Estimate the cost of the trainings that are not finished; train nothing, write nothing.

    Raises:
        CheckpointError: the state of an interrupted training is damaged.
    """
    return estimate_costs(config.trainings(), resolve_device(config.device))


def run(
    config: DisentangleConfig,
    resolved: ResolvedSettings | None = None,
    progress: Progress = SILENT,
) -> DisentangleResult:
    """Train and score the models that are not finished yet, and write the report.

    A comparison reports its cost first. If one of its trainings fails, the others go on. The report
    is rewritten after each seed.

    Raises:
        ConfigError: a training that exists has other settings; then nothing is started.
        CheckpointError, TrainingError: the only training, or each one, failed.
    """
    device = resolve_device(config.device)
    with lock_folder(config.output):
        _prepare_folders(config)
        sprites = open_dsprites(config.data)
        write_settings(config.output, resolved)
        if config.compare:
            return _compare(config, sprites, device, progress)
        runs = [_finish(config, sprites, device, progress)]
        write_report(config.output, runs, None, sprites)
    return DisentangleResult(config.output, runs)


def _compare(
    config: DisentangleConfig, sprites: SpriteImages, device: torch.device, progress: Progress
) -> DisentangleResult:
    """Finish all trainings of a comparison, and write its report after each seed."""
    failures: dict[str, AnomalyCliError] = {}
    sound = []
    for training in config.trainings():
        try:
            _check_files(training, sprites)
            sound.append(training)
        except CheckpointError as error:
            advice = f"remove {training.output} to repeat this training alone"
            failures[training.name] = CheckpointError(f"{error}; {advice}")
            progress.error(f"{training.name}: {failures[training.name]}")
    report_costs(estimate_costs(sound, device), progress)
    runs: list[Run] = []
    comparison = None
    for _, trainings in groupby(sound, key=lambda training: training.seed):
        for training in trainings:
            try:
                runs.append(_finish(training, sprites, device, progress))
            except (CheckpointError, TrainingError) as error:
                failures[training.name] = error
                progress.error(f"{training.name}: {error}")
        if runs:
            comparison = compare_entries(config.entries, runs)
            write_report(config.output, runs, comparison, sprites, failures)
    result = DisentangleResult(config.output, runs, comparison, failures)
    if not runs:
        result.raise_failures()
    return result


def _check_files(training: DisentangleConfig, sprites: SpriteImages) -> None:
    """Check what exists of a training, so that days of others do not go before an error.

    Raises:
        CheckpointError: a file is damaged.
        ConfigError: the settings are others.
    """
    path = training.output / STATE_FILE
    saved: Any = {}
    if is_finished(training.output):
        path = training.output / SCORES_FILE
        saved = load_run(training.output).record["settings"]
    elif path.exists():
        saved = read_state(path).get("settings")
    else:
        return
    if not isinstance(saved, dict):
        raise CheckpointError(f"{path} does not belong to this model")
    require_same_settings(path, saved, _settings(training, sprites))
    remaining_work(training)


def _prepare_folders(config: DisentangleConfig) -> None:
    trainings = config.trainings()
    is_known = any(is_begun(each.output) for each in trainings)
    if is_known and not (config.resume or config.overwrite):
        raise OutputError(
            f"{config.output} holds trainings; add --resume to continue them, or --overwrite to "
            f"start again"
        )
    is_allowed = config.overwrite or (config.resume and is_known)
    prepare_output_folder(config.output, overwrite=is_allowed)
    for each in trainings:
        remove_partial_files(each.output)
    if config.overwrite and not config.resume:
        for each in trainings:  # an old run must not pass for a new one that was interrupted
            (each.output / SCORES_FILE).unlink(missing_ok=True)
            (each.output / STATE_FILE).unlink(missing_ok=True)


def _finish(
    config: DisentangleConfig, sprites: SpriteImages, device: torch.device, progress: Progress
) -> Run:
    """Train and score one run, or load it if it is finished."""
    settings = _settings(config, sprites)
    if is_finished(config.output):
        finished = load_run(config.output)
        require_same_settings(config.output / SCORES_FILE, finished.record["settings"], settings)
        progress.note(f"{config.name}: already finished; kept")
        return finished
    trainer, last = _train(config, settings, sprites, device, progress)
    save_vae(config.output / MODEL_FILE, trainer.vae, config.model, settings)
    scored = _score(config, trainer, progress)
    write_scores(config.output, settings, scored.scores, scored.information, last)
    (config.output / STATE_FILE).unlink()
    return load_run(config.output)


def _settings(config: DisentangleConfig, sprites: SpriteImages) -> Settings:
    """List the settings that determine weights and scores; a resumed run must keep them."""
    kept = ("latent_dim", "steps", "batch_size", "learning_rate", "discriminator_learning_rate")
    objective = asdict(config.objective(config.method))
    objective["lambda"] = objective.pop("overlap")
    scored = len(sprites) if config.score_images is None else config.score_images
    return {
        "method": config.method,
        "seed": config.seed,
        **objective,
        **{name: getattr(config, name) for name in kept},
        "images": sprites.source,
        "scored_images": min(scored, len(sprites)),
    }


def _train(
    config: DisentangleConfig,
    settings: Settings,
    sprites: SpriteImages,
    device: torch.device,
    progress: Progress,
) -> tuple[Trainer, StepStats]:
    """Train to the last step; return the trainer and the last statistics."""
    seed_everything(config.seed)
    objective = config.objective(config.method)
    trainer = Trainer(conv_vae(config.model), sprites, objective, config, device)
    state_file = config.output / STATE_FILE
    history: list[StepStats] = []
    if state_file.exists():
        history = [StepStats(*row) for row in resume_training(state_file, trainer, settings)]
    saved = time.monotonic()
    next_line = trainer.step + config.steps / _LINES
    bar = progress.bar(config.name, total=config.steps, done=trainer.step, unit="steps")
    with bar:
        for stats in trainer.run():
            bar.advance(status="" if stats is None else _describe_loss(stats))
            if stats is not None:
                history.append(stats)
                write_history(config.output / METRICS_FILE, history)
                is_due = stats.step >= next_line or stats.step == config.steps
                if is_due and not bar.is_shown:
                    next_line = stats.step + config.steps / _LINES
                    progress.note(_describe_steps(config, stats))
            if time.monotonic() - saved > SAVE_EVERY:
                save_state(state_file, trainer, settings, history)
                saved = time.monotonic()
    save_state(state_file, trainer, settings, history)
    return trainer, history[-1]


def _describe_loss(stats: StepStats) -> str:
    return f"reconstruction {stats.reconstruction:,.0f}, KL {stats.kl:.1f}"


def _describe_steps(config: DisentangleConfig, stats: StepStats) -> str:
    return (
        f"{config.name}, step {stats.step:,}/{config.steps:,}: {_describe_loss(stats)}, overlap "
        f"{stats.overlap:.3f}, {stats.active_latents} active latents"
    )


def _score(config: DisentangleConfig, trainer: Trainer, progress: Progress) -> Scored:
    sprites = trainer.sprites
    indices = select_images(len(sprites), config.score_images, seed=config.seed)
    batches = math.ceil(len(indices) / BATCH)
    with progress.bar(f"{config.name}: encoding", total=batches) as bar:
        codes = encode_images(trainer.vae, sprites, indices, trainer.device, bar.advance)
    progress.note(f"{config.name}: scoring {len(indices):,} images")
    return score_codes(codes, indices, seed=config.seed)
