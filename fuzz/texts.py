"""Files of text: settings, manifests, older reports, and lists of files."""

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import typer
from example_reports import full_report, troubled_report

from anomaly_cli.cli import app
from anomaly_cli.config.toml import read_settings, toml_value
from anomaly_cli.errors import ConfigError
from anomaly_cli.evaluation.gates import differing_settings, judge_baseline, read_baseline
from anomaly_cli.evaluation.reports.machine import json_document
from anomaly_cli.evaluation.reports.write import write_reports
from anomaly_cli.files.lists import read_file_list
from anomaly_cli.files.manifest import manifest_line, read_manifest
from fuzz.mutation import mutate_bytes, mutate_value
from fuzz.target import DamagedFile, Target

_SETTINGS: dict[str, dict[str, Any]] = {
    "train": {"epochs": 3, "dataset": "mvtec", "learning_rate": 1e-3, "category": "all"},
    "localize": {"map": "fused", "threshold": "image-fpr=0.05", "batch_size": 4, "heatmaps": True},
    "evaluate": {"fail_under": ["pixel_auroc=0.5"], "format": "json,csv", "max_drop": 0.01},
}
_RECORD = {
    "image": "a/000.png",
    "score": 1.5,
    "is_anomalous": True,
    "outputs": {"map": "maps/a/000.tiff"},
    "threshold": 1.25,
    "outline": None,
    "colour_range": [0.0, 2.5],
    "nearest": {"image": "001.png", "box": [0.0, 0.0, 0.5, 0.5], "distance": 1.0},
}


def _json(value: Any, random: Random) -> bytes:
    """Write a value, damage the text at times, and write numbers beyond those that JSON has."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    return (
        mutate_bytes(text, [b"[" * 9000, b'{"a":' * 9000, b"1" * 5000], random)
        if random.random() < 0.3
        else text
    )


def _draw_settings(random: Random) -> DamagedFile:
    tables: Any = _SETTINGS
    if random.random() < 0.6:
        tables = mutate_value(_SETTINGS, random)
        if not isinstance(tables, dict) or not all(
            isinstance(own, dict) for own in tables.values()
        ):
            tables = _SETTINGS
    lines = [
        line
        for name, table in tables.items()
        for line in (f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()))
    ]
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    others = [b"a = 1979-05-27T07:32:00Z\n", b"a = 'x'\n[a]\n", b"x = " + b"[" * 9000, b"9" * 5000]
    return DamagedFile(
        mutate_bytes(text, others, random) if random.random() < 0.7 else text, ".toml"
    )


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return toml_value(value)


@cache
def _commands() -> Any:
    return typer.main.get_command(app)


def _read_settings(path: Path) -> None:
    """Apply --config to each command, without running any."""
    root = _commands()
    with root.make_context("anomaly-cli", ["--quiet"]) as parent:
        for name, arguments in (("train", []), ("localize", ["m", "i"]), ("evaluate", [])):
            try:
                root.commands[name].make_context(name, ["--config", str(path), *arguments], parent)
            except (ConfigError, typer.BadParameter):  # both are one line of error
                continue
    own = path.parent / "settings.toml"
    own.write_bytes(path.read_bytes())
    read_settings(path.parent, "train")
    own.unlink()


def _draw_manifest(random: Random) -> DamagedFile:
    lines = [_json(_RECORD, random) for _ in range(2)]
    lines.insert(random.randrange(3), _json(mutate_value(_RECORD, random), random))
    return DamagedFile(b"\n".join([*lines, b""]), ".jsonl")


def _read_manifest(path: Path) -> None:
    """Read and write the lines again, as `localize --resume` does."""
    for record in read_manifest(path):
        manifest_line(record)


@cache
def _report_seeds() -> list[Any]:
    return [json.loads(json_document(report)) for report in (full_report(), troubled_report())]


def _draw_baseline(random: Random) -> DamagedFile:
    value = random.choice(_report_seeds())
    if random.random() < 0.9:
        rows = list(value["categories"])
        rows[0] = mutate_value(rows[0], random)
        value = value | {"categories": rows}
    else:
        value = mutate_value(value, random)
    return DamagedFile(_json(value, random), ".json")


def _read_baseline(path: Path) -> None:
    """Compare a report with an older one, and write what came out in every format."""
    baseline, report = read_baseline(path), full_report()
    gates = judge_baseline(report, baseline, max_drop=0.01, is_complete=True)
    differing_settings(report, baseline)
    write_reports(
        path.parent / "report", report.__class__(**vars(report) | {"gates": tuple(gates)})
    )


def _draw_list(random: Random) -> DamagedFile:
    seed = "# images\na.png\nb/c.png\n\n".encode(random.choice(("utf-8", "utf-8-sig", "utf-16")))
    return DamagedFile(mutate_bytes(seed, [b"../" * 3000, b"\0", b"/dev/null\n"], random), ".txt")


TARGETS = {
    "settings": Target(_draw_settings, _read_settings),
    "manifests": Target(_draw_manifest, _read_manifest),
    "baselines": Target(_draw_baseline, _read_baseline),
    "lists": Target(_draw_list, read_file_list),
}
