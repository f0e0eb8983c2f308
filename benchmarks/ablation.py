"""Compare trainings without guidance, neck or full resolution: one after another, one table.

    python benchmarks/ablation.py --data data/mvtec --category bottle --seeds 0 1 2 --output out
    python benchmarks/ablation.py ... --variants fast "fast, no neck"

Each variant is trained once for each seed with the settings that `train` has for it; seeds are
paired: one seed has the same split, order and synthetic defects in every variant. The statistics of
attention are rows of the table (`exact`: over all positions; `exact_position`: of each one;
`exact_covariance`: with covariances), for they cost no training. `train` chose the map by synthetic
defects; the test split is read here alone, and chooses nothing. A training that is there already is
scored and not repeated, so that a stopped run goes on.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accuracy import Score, score_maps, test_pairs

from anomaly_cli.commands import train
from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.names import MODEL_FILE
from anomaly_cli.config.train import TrainConfig, default_options
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.device import resolve_device
from anomaly_cli.detector.maps import map_specs

FAST = default_options("synthetic", speed="fast")
VARIANTS: dict[str, dict[str, Any]] = {  # options of `train` where they are not the default
    "default": {},
    "thorough": default_options("synthetic", speed="thorough"),
    "resnet18": default_options("synthetic", encoder="resnet18"),
    "fast": FAST,
    "fast, no neck": {**FAST, "neck": "none"},
    "fast, no guidance": {**FAST, "guidance": "none"},
    "paper at 128 px": {**default_options("none", speed="fast"), "guidance": "none"},
}


class Training(NamedTuple):
    """One trained model, scored on the test split."""

    minutes: float  # NaN if it was trained by an earlier call
    chosen: str
    scores: dict[str, Score]  # by name of the map
    called: float  # share of the good test images with an anomalous region


def config_of(variant: str, seed: int, options: argparse.Namespace) -> TrainConfig:
    """Resolve the settings of `train` for a variant."""
    given = dict(VARIANTS[variant])
    if options.epochs:
        given |= {"epochs": options.epochs, "images_seen": 0}
    return TrainConfig.resolve(
        data=options.data,
        category=options.category,
        output=options.output / variant.replace(", ", "_").replace(" ", "_") / f"seed{seed}",
        **given,
        seed=seed,
        device=options.device,
    )


def run_one(variant: str, seed: int, options: argparse.Namespace) -> Training:
    """Train, unless it is there, and score every map of the last layer."""
    config = config_of(variant, seed, options)
    folder = config.output / config.category
    clock = folder / "minutes.json"
    start = time.perf_counter()
    is_new = not (folder / MODEL_FILE).is_file()
    train.run(replace(config, resume=(folder / "training_state.pt").exists()))
    if is_new:
        clock.write_text(json.dumps((time.perf_counter() - start) / 60))
    loaded = load_model(folder / MODEL_FILE)
    pairs = list(test_pairs(loaded, options.data))
    specs = [
        spec
        for spec in map_specs(loaded.record.model)
        if spec.layer in {None, loaded.record.model.layers[-1]}
    ]
    mapper = loaded.mapper(resolve_device(options.device))
    scores = {str(spec): score for spec, score in score_maps(mapper, specs, pairs).items()}
    threshold = Detector.open(folder / MODEL_FILE, MapConfig(device=options.device)).threshold
    chosen = loaded.record.default_map
    good = [
        value
        for value, (_i, mask) in zip(scores[chosen].maxima, pairs, strict=True)
        if not mask.any()
    ]
    called = float(np.mean([value > threshold.value for value in good]))
    minutes = json.loads(clock.read_text()) if clock.is_file() else float("nan")
    return Training(minutes, chosen, scores, called)


def row_of(variant: str, name: str, scores: Sequence[Score], minutes: Sequence[float]) -> str:
    """Write one Markdown row: the mean, and the least and the greatest over the seeds."""
    cells = [variant, name, f"{np.mean(minutes):.0f}"]
    for values in zip(*((s.pixel_auroc, s.best_iou, s.image_auroc) for s in scores), strict=True):
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.3f}{spread}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Train and score every variant, and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--category", required=True)
    parser.add_argument("--output", type=Path, required=True, help="keeps the models")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, help="fewer than the variant's, for a trial")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    print("| training | map | minutes | pixel AUROC | best IoU (oracle) | image AUROC |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for variant in options.variants:
        trainings = [run_one(variant, seed, options) for seed in options.seeds]
        minutes = [training.minutes for training in trainings]
        chosen = [training.scores[training.chosen] for training in trainings]
        names = ", ".join(dict.fromkeys(training.chosen for training in trainings))
        print(row_of(variant, f"chosen: {names}", chosen, minutes), flush=True)
        for name in trainings[0].scores:
            if name.startswith(("exact", "fused", "appearance", "memory", "reconstruction")):
                scores = [training.scores[name] for training in trainings]
                print(row_of(variant, name, scores, minutes), flush=True)
        called = ", ".join(f"{training.called:.1%}" for training in trainings)
        print(f"| {variant} | good images called anomalous | | {called} | | |", flush=True)


if __name__ == "__main__":
    main()
