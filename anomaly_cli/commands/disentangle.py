"""`disentangle`: train VAEs on dSprites, score their latents, and write a report."""

import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anomaly_cli.config.disentangle import DisentangleConfig, Method
from anomaly_cli.config.names import MODEL_FILE, STATE_FILE
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.detector.device import resolve_device, seed_everything
from anomaly_cli.disentangle.comparison import PairedDifference, compare_runs
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
from anomaly_cli.errors import OutputError
from anomaly_cli.files.atomic import prepare_output_folder, remove_partial_files
from anomaly_cli.files.lock import lock_folder
from anomaly_cli.progress import SILENT, Progress
from anomaly_cli.training.resume import require_same_settings, resume_training, save_state
from models.conv import conv_vae

SAVE_EVERY = 30.0  # seconds; an interruption loses no more than this
_LINES = 20  # progress messages of one training, if there is no terminal


class Plan(NamedTuple):
    """The method, seed and folder of one training."""

    method: Method
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """Name of the training, for messages."""
        return f"{self.method}, seed {self.seed}"


class DisentangleResult(NamedTuple):
    """The result of `disentangle`: trained models, and the comparison of two methods."""

    output: Path
    runs: list[Run]  # of a comparison: first and second method of each seed in turn
    differences: list[PairedDifference]  # empty unless two methods are compared

    @property
    def document(self) -> dict[str, Any]:
        """Plain JSON values: of the comparison, or without one, the content of SCORES_FILE."""
        if self.differences:
            return comparison_document(self.runs, self.differences)
        return dict(self.runs[0].record)


def run(
    config: DisentangleConfig,
    resolved: ResolvedSettings | None = None,
    progress: Progress = SILENT,
) -> DisentangleResult:
    """Train and score the models that are not finished yet, and write the report.

    The report of a comparison is rewritten after each pair of models.
    """
    device = resolve_device(config.device)
    plans = _plan(config)
    with lock_folder(config.output):
        _prepare_folders(config, plans)
        sprites = open_dsprites(config.data)
        write_settings(config.output, resolved)
        runs: list[Run] = []
        differences: list[PairedDifference] = []
        for plan in plans:
            runs.append(_finish(config, plan, sprites, device, progress))
            if len(runs) % len(config.methods) == 0:
                differences = compare_runs(runs[::2], runs[1::2]) if config.compare else []
                write_report(config.output, runs, differences, sprites)
    return DisentangleResult(config.output, runs, differences)


def _plan(config: DisentangleConfig) -> list[Plan]:
    if config.compare is None:
        return [Plan(config.method, config.seed, config.output)]
    seeds = range(config.seed, config.seed + config.seeds)
    return [
        Plan(method, seed, config.output / method / f"seed-{seed}")
        for seed in seeds
        for method in config.methods
    ]


def _prepare_folders(config: DisentangleConfig, plans: list[Plan]) -> None:
    is_known = any(is_begun(plan.folder) for plan in plans)
    if is_known and not (config.resume or config.overwrite):
        raise OutputError(
            f"{config.output} holds trainings; add --resume to continue them, or --overwrite to "
            f"start again"
        )
    is_allowed = config.overwrite or (config.resume and is_known)
    prepare_output_folder(config.output, overwrite=is_allowed)
    for plan in plans:
        remove_partial_files(plan.folder)
    if config.overwrite and not config.resume:
        for plan in plans:  # an old run must not pass for a new one that was interrupted
            (plan.folder / SCORES_FILE).unlink(missing_ok=True)
            (plan.folder / STATE_FILE).unlink(missing_ok=True)


def _finish(
    config: DisentangleConfig,
    plan: Plan,
    sprites: SpriteImages,
    device: torch.device,
    progress: Progress,
) -> Run:
    """Train and score one run, or load it if it is finished."""
    settings = _settings(config, plan, sprites)
    if is_finished(plan.folder):
        finished = load_run(plan.folder)
        require_same_settings(plan.folder / SCORES_FILE, finished.record["settings"], settings)
        progress.note(f"{plan.name}: already finished; kept")
        return finished
    trainer, last = _train(config, plan, settings, sprites, device, progress)
    save_vae(plan.folder / MODEL_FILE, trainer.vae, config.model, settings)
    scored = _score(plan, trainer, config, progress)
    write_scores(plan.folder, settings, scored.scores, scored.information, last)
    (plan.folder / STATE_FILE).unlink()
    return load_run(plan.folder)


def _settings(config: DisentangleConfig, plan: Plan, sprites: SpriteImages) -> Settings:
    """List the settings that determine weights and scores; a resumed run must keep them."""
    kept = ("latent_dim", "steps", "batch_size", "learning_rate", "discriminator_learning_rate")
    objective = asdict(config.objective(plan.method))
    objective["lambda"] = objective.pop("overlap")
    scored = len(sprites) if config.score_images is None else config.score_images
    return {
        "method": plan.method,
        "seed": plan.seed,
        **objective,
        **{name: getattr(config, name) for name in kept},
        "images": sprites.source,
        "scored_images": min(scored, len(sprites)),
    }


def _train(
    config: DisentangleConfig,
    plan: Plan,
    settings: Settings,
    sprites: SpriteImages,
    device: torch.device,
    progress: Progress,
) -> tuple[Trainer, StepStats]:
    """Train to the last step; return the trainer and the last statistics."""
    seed_everything(plan.seed)
    objective = config.objective(plan.method)
    own = replace(config, compare=None, method=plan.method, seed=plan.seed)
    trainer = Trainer(conv_vae(config.model), sprites, objective, own, device)
    state_file = plan.folder / STATE_FILE
    history: list[StepStats] = []
    if state_file.exists():
        history = [StepStats(*row) for row in resume_training(state_file, trainer, settings)]
    saved = time.monotonic()
    next_line = trainer.step + config.steps / _LINES
    bar = progress.bar(plan.name, total=config.steps, done=trainer.step, unit="steps")
    with bar:
        for stats in trainer.run():
            bar.advance(status="" if stats is None else _describe_loss(stats))
            if stats is not None:
                history.append(stats)
                write_history(plan.folder / METRICS_FILE, history)
                is_due = stats.step >= next_line or stats.step == config.steps
                if is_due and not bar.is_shown:
                    next_line = stats.step + config.steps / _LINES
                    progress.note(_describe_steps(plan, stats, config))
            if time.monotonic() - saved > SAVE_EVERY:
                save_state(state_file, trainer, settings, history)
                saved = time.monotonic()
    save_state(state_file, trainer, settings, history)
    return trainer, history[-1]


def _describe_loss(stats: StepStats) -> str:
    return f"reconstruction {stats.reconstruction:,.0f}, KL {stats.kl:.1f}"


def _describe_steps(plan: Plan, stats: StepStats, config: DisentangleConfig) -> str:
    return (
        f"{plan.name}, step {stats.step:,}/{config.steps:,}: {_describe_loss(stats)}, overlap "
        f"{stats.overlap:.3f}, {stats.active_latents} active latents"
    )


def _score(plan: Plan, trainer: Trainer, config: DisentangleConfig, progress: Progress) -> Scored:
    sprites = trainer.sprites
    indices = select_images(len(sprites), config.score_images, seed=plan.seed)
    batches = math.ceil(len(indices) / BATCH)
    with progress.bar(f"{plan.name}: encoding", total=batches) as bar:
        codes = encode_images(trainer.vae, sprites, indices, trainer.device, bar.advance)
    progress.note(f"{plan.name}: scoring {len(indices):,} images")
    return score_codes(codes, indices, seed=plan.seed)
