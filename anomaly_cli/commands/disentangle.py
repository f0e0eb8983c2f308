"""`disentangle`: sprites -> VAEs whose latents stand for factors, their scores, and a report."""

import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anomaly_cli import console
from anomaly_cli.checkpoint import load_training_state, save_training_state
from anomaly_cli.config.disentangle import DisentangleConfig, Method
from anomaly_cli.config.names import MODEL_FILE, STATE_FILE
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.console.disentanglement import steps_progress
from anomaly_cli.data.dsprites import SpriteImages, open_dsprites
from anomaly_cli.device import resolve_device, seed_everything
from anomaly_cli.disentangling.comparison import PairedDifference, compare_runs
from anomaly_cli.disentangling.runs import (
    METRICS_FILE,
    SCORES_FILE,
    Run,
    Settings,
    is_finished,
    load_run,
    save_vae,
    write_history,
    write_scores,
)
from anomaly_cli.disentangling.scoring import (
    BATCH,
    Scored,
    encode_images,
    score_codes,
    select_images,
)
from anomaly_cli.disentangling.training import StepStats, Trainer
from anomaly_cli.errors import CheckpointError, ConfigError, OutputError
from anomaly_cli.files.atomic import prepare_output_folder
from anomaly_cli.reports.disentanglement import comparison_document, write_report
from models.conv import conv_vae

SAVE_EVERY = 30.0  # seconds; what an interruption loses at most


class Plan(NamedTuple):
    """One training."""

    method: Method
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.method}, seed {self.seed}"


class DisentangleResult(NamedTuple):
    """What was trained, and what is better."""

    output: Path
    runs: list[Run]  # of a comparison: first and second method of each seed in turn
    differences: list[PairedDifference]  # empty unless two methods are compared

    @property
    def document(self) -> dict[str, Any]:
        """Plain JSON values: the comparison, or else what stands in SCORES_FILE."""
        if self.differences:
            return comparison_document(self.runs, self.differences)
        return dict(self.runs[0].record)


def run(config: DisentangleConfig, resolved: ResolvedSettings | None = None) -> DisentangleResult:
    """Train, score and draw; of a comparison, whatever is not finished yet.

    The report of a comparison is written anew after each pair.
    """
    device = resolve_device(config.device)
    plans = _plan(config)
    _prepare_folders(config, plans)
    sprites = open_dsprites(config.data)
    write_settings(config.output, resolved)
    runs: list[Run] = []
    differences: list[PairedDifference] = []
    for plan in plans:
        runs.append(_finish(config, plan, sprites, device))
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
    files = [plan.folder / name for plan in plans for name in (SCORES_FILE, STATE_FILE)]
    is_known = any(file.exists() for file in files)
    if is_known and not (config.resume or config.overwrite):
        raise OutputError(
            f"{config.output} holds trainings; add --resume to go on with them, or --overwrite to "
            f"start anew"
        )
    is_allowed = config.overwrite or (config.resume and is_known)
    prepare_output_folder(config.output, overwrite=is_allowed)
    if config.overwrite and not config.resume:
        for file in files:  # or an old run would pass for the new one after an interruption
            file.unlink(missing_ok=True)


def _finish(
    config: DisentangleConfig, plan: Plan, sprites: SpriteImages, device: torch.device
) -> Run:
    """Train and score what is left of one run."""
    settings = _settings(config, plan, sprites)
    if is_finished(plan.folder):
        finished = load_run(plan.folder)
        _check_same(finished.record["settings"], settings, plan.folder / SCORES_FILE)
        console.note(f"{plan.name}: finished before, left as it is")
        return finished
    trainer, last = _train(config, plan, settings, sprites, device)
    save_vae(plan.folder / MODEL_FILE, trainer.vae, config.model, settings)
    scored = _score(plan, trainer, config)
    write_scores(plan.folder, settings, scored.scores, scored.information, last)
    (plan.folder / STATE_FILE).unlink()
    return load_run(plan.folder)


def _settings(config: DisentangleConfig, plan: Plan, sprites: SpriteImages) -> Settings:
    """What fixes weights and scores: a resumed run must share it with its beginning."""
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


def _check_same(old: Settings, new: Settings, path: Path) -> None:
    changed = [name for name in new if old.get(name) != new[name]]
    if changed:
        raise ConfigError(
            f"{path} was made with other settings ({', '.join(changed)}); give the same ones, or "
            f"--overwrite to start anew"
        )


def _train(
    config: DisentangleConfig,
    plan: Plan,
    settings: Settings,
    sprites: SpriteImages,
    device: torch.device,
) -> tuple[Trainer, StepStats]:
    """The trained networks, and the last statistics."""
    seed_everything(plan.seed)
    objective = config.objective(plan.method)
    own = replace(config, compare=None, method=plan.method, seed=plan.seed)
    trainer = Trainer(conv_vae(config.model), sprites, objective, own, device)
    state_file = plan.folder / STATE_FILE
    history = _resume(trainer, state_file, settings) if state_file.exists() else []
    saved = time.monotonic()
    with steps_progress(plan.name, steps=config.steps, done=trainer.step) as progress:
        for stats in trainer.run():
            progress.update(stats)
            if stats is not None:
                history.append(stats)
                write_history(plan.folder / METRICS_FILE, history)
            if time.monotonic() - saved > SAVE_EVERY:
                _save_state(state_file, trainer, settings, history)
                saved = time.monotonic()
    _save_state(state_file, trainer, settings, history)
    return trainer, history[-1]


def _save_state(path: Path, trainer: Trainer, settings: Settings, history: list[StepStats]) -> None:
    state: dict[str, Any] = {"trainer": trainer.state_dict(), "settings": settings}
    state["history"] = [tuple(stats) for stats in history]
    save_training_state(path, state)


def _resume(trainer: Trainer, path: Path, settings: Settings) -> list[StepStats]:
    state = load_training_state(path)
    try:
        _check_same(state["settings"], settings, path)
        trainer.load_state_dict(state["trainer"])
        return [StepStats(*row) for row in state["history"]]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not belong to this model") from error


def _score(plan: Plan, trainer: Trainer, config: DisentangleConfig) -> Scored:
    sprites = trainer.sprites
    indices = select_images(len(sprites), config.score_images, seed=plan.seed)
    batches = math.ceil(len(indices) / BATCH)
    with console.counting_progress(f"{plan.name}: encoding", batches) as advance:
        codes = encode_images(trainer.vae, sprites, indices, trainer.device, advance)
    console.note(f"{plan.name}: scoring {len(indices):,} images")
    return score_codes(codes, indices, seed=plan.seed)
