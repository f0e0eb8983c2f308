"""`reproduce`: every table and figure at the reduced size, what it costs, and what it needs."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Outcome, run_cli, thin_networks, write_category
from example_datasets import write_mnist, write_ucsd
from PIL import Image

from anomaly_cli.commands import reproduce as command
from anomaly_cli.commands import train
from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.names import Guidance
from anomaly_cli.config.reproduce import REDUCED_MARK, TARGETS, ReproduceConfig
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.disentangle import costs as sprite_costs
from anomaly_cli.disentangle.training import Trainer as SpriteTrainer
from anomaly_cli.errors import ConfigError, DataError, TrainingError
from anomaly_cli.evaluation.reports.published import TABLE_1, TABLE_2
from anomaly_cli.files.numbers import duration_text
from anomaly_cli.paper import costs
from anomaly_cli.paper.costs import TrainingCost, cost_of_epochs
from anomaly_cli.paper.stages import SYSTEMS, Stage, one_class_stage, seeds, stages_of
from anomaly_cli.training.dictionary import DictionaryTrainer
from models.config import COMPARED, DictionaryConfig

METHODS = tuple(SYSTEMS.values())
TABLES = ("table1", "table2", "table3")
FIGURES = ("figure1", "figure4", "figure5", "figure6", "figure8")


def shrink(stage: Stage) -> Stage:
    """Reduce a training once more: a test only needs every step to be taken."""
    if isinstance(stage, DisentangleConfig):
        return replace(stage, steps=2, batch_size=2)
    stage = replace(stage, epochs=1, batch_size=4)
    if isinstance(stage.model, DictionaryConfig):
        return replace(stage, model=replace(stage.model, image_size=32, centres=10, nearest=2))
    if stage.dataset == "mvtec":
        return replace(stage, model=replace(stage.model, image_size=32, latent_dim=2))
    if stage.dataset == "mnist":
        return replace(stage, limit=12)
    if stage.dataset == "ucsd":
        return replace(stage, model=replace(stage.model, image_size=24))
    return stage


@pytest.fixture(autouse=True, scope="module")
def tiny() -> Iterator[None]:
    """Make the trainings of reduced runs tiny, their networks, and the timing before them."""

    def tiny_stages(config: ReproduceConfig, target: str) -> list[Stage]:
        stages = stages_of(config, target)
        return [shrink(stage) for stage in stages] if config.reduced else stages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "stages_of", tiny_stages)
        thin_networks(patch)
        patch.setattr(sprite_costs, "TIMED", 1)
        patch.setattr(sprite_costs, "BATCH", 32)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data sets: two categories of MVTec AD of which one has a name of the paper."""
    root = tmp_path_factory.mktemp("data")
    write_category(root / "mvtec", "bottle", train=6, test=2)
    write_category(root / "mvtec", "disc", train=6, test=2)
    write_mnist(root, trained=(1, 3))
    write_ucsd(root / "ucsd")
    return root


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests, so that a model is trained once."""
    return tmp_path_factory.mktemp("output")


def reproduce(root: Path, output: Path, *arguments: object) -> Outcome:
    return run_cli("reproduce", *arguments, "--reduced", "--data", root, "--output", output)


def rows_of(output: Path, name: str) -> dict[str, dict[str, float]]:
    text = (output / f"reduced/{name}/{name}.json").read_text()
    rows: dict[str, dict[str, float]] = json.loads(text)["rows"]
    return rows


@pytest.fixture(scope="module")
def table_2(root: Path, output: Path) -> Outcome:
    outcome = reproduce(root, output, "table2")
    assert outcome.code == 0, outcome.stderr
    return outcome


def test_table_1_has_ours_the_papers_and_the_deviation(root: Path, output: Path) -> None:
    outcome = reproduce(root, output, "table1")
    assert outcome.code == 0, outcome.stderr
    rows = rows_of(output, "table1")
    assert tuple(rows["UCSDped1, the paper"].values()) == TABLE_1
    for column, deviation in rows["UCSDped2, deviation"].items():
        ours, paper = rows["UCSDped2, ours"][column], rows["UCSDped1, the paper"][column]
        assert deviation == pytest.approx(ours - paper)
    report = output / "reduced/table1/evaluation/table_1.json"
    evaluated = json.loads(report.read_text())["rows"]["UCSDped2, pixel AUROC"]
    assert list(rows["UCSDped2, ours"].values()) == list(evaluated.values())
    assert "another camera" in (output / "reduced/table1/table1.md").read_text()


def test_table_2_stands_beside_the_paper(table_2: Outcome, output: Path) -> None:
    rows = rows_of(output, "table2")
    assert list(rows) == [f"{name}, {method}" for name in ("bottle", "disc") for method in METHODS]
    bottle = rows["bottle, VAE attention, as in the paper"]
    assert bottle["the paper's"] == TABLE_2["bottle"].pixel_auroc[-1] == 0.87
    assert bottle["deviation"] == pytest.approx(bottle["pixel AUROC"] - 0.87)
    assert bottle["the paper's second row"] == 0.27
    assert rows["bottle, AE-SSIM"]["the paper's"] == 0.93
    assert rows["bottle, CNN feature dictionary"]["the paper's second row"] == 0.07
    assert rows["bottle, default of train"]["the paper's"] is None
    assert rows["disc, AnoGAN"]["the paper's"] is None
    assert all(0 <= row["pixel AUROC"] <= 1 for row in rows.values())
    markdown = (output / "reduced/table2/table2.md").read_text()
    assert "14 of 15 categories are not in this run: carpet" in markdown
    assert "Trainings of bottle: AE-SSIM 1 steps of 4 images, 32 px; AE-L2" in markdown
    assert "bottle, AE-L2" in table_2.stdout


def test_each_method_of_table_2_has_models_and_a_report_of_its_own(
    table_2: Outcome, output: Path
) -> None:
    assert table_2.code == 0
    reports = output / "reduced/table2/evaluation"
    found = {path.name: path for path in reports.iterdir()}
    assert set(found) == {*COMPARED, "paper", "default"}
    for name, folder in found.items():
        rows = json.loads((folder / "report.json").read_text())["categories"]
        assert [row["category"] for row in rows] == ["bottle", "disc"]
        assert name not in COMPARED or {row["map"] for row in rows} == {name}
    runs = {path.name for path in (output / "reduced/runs").glob("mvtec*")}
    assert runs == {"mvtec", "mvtec-guided", *(f"mvtec-{name}" for name in COMPARED)}


def test_a_reduced_run_is_marked_in_every_place(table_2: Outcome, output: Path) -> None:
    folder = output / "reduced/table2"
    for suffix in ("json", "md"):
        assert REDUCED_MARK in (folder / f"table2.{suffix}").read_text()
    assert REDUCED_MARK in table_2.stdout
    assert REDUCED_MARK in table_2.stderr
    assert not (output / "table2").exists()
    assert "reduced = true  # flag" in (folder / "settings.toml").read_text()


def test_costs_are_reported_before_the_training_starts(table_2: Outcome) -> None:
    lines = table_2.stderr
    assert "table2 needs MVTec AD" in lines
    assert lines.index("estimated cost: about ") < lines.index("bottle epoch 1/1")


@pytest.mark.usefixtures("table_2")
def test_a_trained_model_is_not_trained_again(
    root: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for a figure that needs it too."""
    model = output / "reduced/runs/mvtec/bottle/model.safetensors"
    before = (rows_of(output, "table2"), model.stat().st_mtime_ns)
    monkeypatch.setattr(train, "train_category", None)  # a training would fail
    outcome = reproduce(root, output, "table2", "figure6")
    assert outcome.code == 0, outcome.stderr
    assert "train mvtec bottle: already finished, about 0 s" in outcome.stderr
    assert (rows_of(output, "table2"), model.stat().st_mtime_ns) == before
    assert (output / "reduced/figure6/figure6.png").is_file()


@pytest.mark.usefixtures("table_2")
def test_a_model_of_other_settings_is_not_taken_for_this_one(root: Path, output: Path) -> None:
    outcome = reproduce(root, output, "table2", "--seed", 1)
    assert outcome.code == 2
    assert "bottle was trained with other settings (seed, data)" in outcome.stderr


def test_a_category_that_fails_is_named_and_costs_no_other(tmp_path: Path) -> None:
    """Though it is the first one, on which the others would be timed."""
    broken = write_category(tmp_path / "mvtec", "bottle", train=6, test=2)
    write_category(tmp_path / "mvtec", "cable", train=6, test=2)
    (broken / "train/good/002.png").write_bytes(b"no image")
    outcome = reproduce(tmp_path, tmp_path / "out", "table2")
    assert outcome.code == 3
    assert "train mvtec bottle: unknown: " in outcome.stderr
    assert "error: failed: bottle, AE-SSIM of table2" in outcome.stderr
    rows = rows_of(tmp_path / "out", "table2")
    assert rows["bottle, AE-L2"]["pixel AUROC"] is None
    assert rows["bottle, AE-L2"]["the paper's"] == 0.86
    assert rows["cable, AE-L2"]["pixel AUROC"] > 0
    assert "bottle, AE-L2 failed: " in (tmp_path / "out/reduced/table2/table2.md").read_text()


def test_one_method_that_fails_costs_no_other(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(_trainer: object) -> None:
        raise TrainingError("diverged")

    monkeypatch.setattr(DictionaryTrainer, "run", diverge)
    monkeypatch.setattr(command, "estimate_costs", lambda *_: [])
    outcome = reproduce(root, tmp_path, "table2")
    assert outcome.code == 7
    rows = rows_of(tmp_path, "table2")
    for name in ("bottle", "disc"):
        values = {method: rows[f"{name}, {method}"]["pixel AUROC"] for method in METHODS}
        assert [method for method, value in values.items() if value is None] == [
            "CNN feature dictionary"
        ]


def test_epochs_are_of_the_papers_vae_alone(root: Path) -> None:
    config = ReproduceConfig(targets=("table2",), data=root, paper_epochs=7)
    stages = [stage for stage in stages_of(config, "table2") if isinstance(stage, TrainConfig)]
    assert [stage.epochs == 7 for stage in stages] == 2 * [
        system == "paper" for system in ("ae-ssim", "ae-l2", "anogan", "dictionary", "paper", "own")
    ]
    with pytest.raises(ConfigError, match="--paper-epochs is for the paper's VAE in table2"):
        ReproduceConfig(targets=("figure6",), paper_epochs=7)
    with pytest.raises(ConfigError, match="--paper-epochs must be at least 1"):
        ReproduceConfig(targets=("table2",), paper_epochs=0)


def test_a_figure_whose_images_cannot_be_read_ends_with_their_error(tmp_path: Path) -> None:
    """A training image costs the training, and a test image the figure."""
    folder = write_ucsd(tmp_path / "ucsd") / "UCSDped2"
    for frame in (folder / "Test/Test001").iterdir():
        frame.write_bytes(b"no image")
    outcome = reproduce(tmp_path, tmp_path / "out", "figure1")
    assert outcome.code == 3
    assert "error: cannot read" in outcome.stderr.splitlines()[-1]
    for frame in (folder / "Train/Train001").iterdir():
        frame.write_bytes(b"no image")
    outcome = reproduce(tmp_path, tmp_path / "other", "figure5")
    assert outcome.code == 3
    assert "error: cannot read" in outcome.stderr.splitlines()[-1]


def test_table_3_and_figure_8_share_their_models(
    root: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = reproduce(root, output, "table3")
    assert outcome.code == 0, outcome.stderr
    rows = rows_of(output, "table3")
    assert list(rows) == ["factor-vae:40", "beta-vae:4", "ad-factor-vae:40"]
    assert [row["the paper"] for row in rows.values()] == [0.82, 0.73, 0.93]
    for row in rows.values():
        assert row["deviation"] == pytest.approx(row["mean"] - row["the paper"])
        assert row["sd"] is not None
    own = rows["ad-factor-vae:40"]
    difference = own["mean"] - rows["factor-vae:40"]["mean"]
    assert own["minus factor-vae:40"] == pytest.approx(difference)
    markdown = (output / "reduced/table3/table3.md").read_text()
    assert "ad-factor-vae:40 minus factor-vae:40 on the same seeds" in markdown
    assert (output / "reduced/table3/comparison/comparison.json").is_file()
    monkeypatch.setattr(SpriteTrainer, "train_step", None)  # a training would fail
    assert reproduce(root, output, "figure8").code == 0


@pytest.mark.usefixtures("table_2")
@pytest.mark.parametrize("target", FIGURES)
def test_each_figure_is_a_picture_with_its_settings(root: Path, output: Path, target: str) -> None:
    outcome = reproduce(root, output, target)
    assert outcome.code == 0, outcome.stderr
    folder = output / "reduced" / target
    assert {path.name for path in folder.iterdir()} == {f"{target}.png", "settings.toml"}
    with Image.open(folder / f"{target}.png") as picture:
        assert min(picture.size) > 300
        reds = [pixel for _, pixel in picture.convert("RGB").getcolors(2**24) or []]
        assert (190, 20, 20) in reds  # the mark of a reduced run
    assert outcome.stdout == ""
    assert f"{target}.png" in outcome.stderr


@pytest.mark.parametrize("flag", ["--estimate", "--dry-run"])
def test_an_estimate_trains_and_writes_nothing(root: Path, tmp_path: Path, flag: str) -> None:
    outcome = reproduce(root, tmp_path / "out", "figure4", "table3", flag)
    assert outcome.code == 0, outcome.stderr
    assert "train mnist 3" in outcome.stdout
    assert "train dsprites ad-factor-vae:40 seed 1" in outcome.stdout
    assert "Estimated cost: about" in outcome.stdout
    assert not (tmp_path / "out").exists()


def test_an_estimate_as_json_adds_up(root: Path, tmp_path: Path) -> None:
    outcome = reproduce(root, tmp_path, "table1", "--estimate", "--json")
    document = json.loads(outcome.stdout)
    stages = document["stages"]
    assert [row["stage"] for row in stages] == ["train ucsd UCSDped2", "evaluate ucsd UCSDped2"]
    assert document["seconds"] == pytest.approx(sum(row["seconds"] for row in stages))
    assert all(row["seconds"] > 0 for row in stages)
    assert document["reduced"] is True


def test_costs_of_epochs_are_steps_held_out_images_and_reading() -> None:
    """30 steps of 2 s, 3 epochs of 5 held-out images at 0.1 s, 105 images read at 0.01 s."""
    each = TrainingCost(step=2.0, held_out=0.1, image=0.01)
    steps, seconds = cost_of_epochs(each, fit=100, held_out=5, batch_size=10, epochs=3)
    assert steps == 30
    assert seconds == pytest.approx(60 + 1.5 + 1.05)
    steps, seconds = cost_of_epochs(each, fit=100, held_out=5, batch_size=10, epochs=3, half=2)
    assert steps == 30
    assert seconds == pytest.approx((1 + 2 / 4) * (20 + 0.5) + 1.05)  # half the side, a quarter
    _, seconds = cost_of_epochs(
        each, fit=100, held_out=5, batch_size=10, epochs=3, per_evaluation=3
    )
    assert seconds == pytest.approx(60 + 0.5 + 1.05)  # evaluated once


@pytest.mark.parametrize(("guidance", "evaluations"), [("none", 60), ("synthetic", 60 / 8)])
def test_cost_of_a_training_counts_how_often_it_evaluates_held_out_images(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    guidance: Guidance,
    evaluations: float,
) -> None:
    """One of six images is held out, at a cost of 1 s; nothing else costs anything here."""

    def cost(_measured: TrainingCost, **counts: int) -> tuple[int, float]:
        return cost_of_epochs(TrainingCost(step=0.0, held_out=1.0, image=0.0), **counts)

    monkeypatch.setattr(costs, "cost_of_epochs", cost)
    stage = TrainConfig.resolve(
        data=root / "mvtec", category="disc", output=tmp_path, guidance=guidance, epochs=60,
        image_size=32, latent_dim=2, batch_size=4,
    )  # fmt: skip
    config = ReproduceConfig(targets=("figure6",), data=root)
    (row,) = costs.estimate(config, [stage])
    assert row.seconds == pytest.approx(evaluations)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.0123, "0.012 s"), (45, "45 s"), (150, "2.5 min"), (5400, "1.5 h"),
     (864000, "10 days"), (math.inf, "n/a")],
)  # fmt: skip
def test_durations_have_two_digits(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("target", "place", "command"),
    [
        ("table1", "ucsd/UCSDped1/Train", "anomaly-cli download ucsd"),
        ("table2", "mvtec/<category>/train/good", "anomaly-cli download mvtec"),
        ("figure4", "MNIST/raw/train-images-idx3-ubyte", "anomaly-cli download mnist"),
        ("figure5", "ucsd/UCSDped1/Train", "anomaly-cli download ucsd"),
        ("figure6", "mvtec/<category>/train/good", "anomaly-cli download mvtec"),
        ("figure1", "MNIST/raw/train-images-idx3-ubyte", "or anomaly-cli download ucsd"),
    ],
)
def test_missing_data_are_one_line_with_the_way_to_get_them(
    tmp_path: Path, target: str, place: str, command: str
) -> None:
    for flags in ([], ["--estimate"]):
        outcome = run_cli("reproduce", target, "table3", "--data", tmp_path / "none", *flags)
        assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (3, "", 1)
        assert f"{target} needs {tmp_path / 'none' / place}" in outcome.stderr
        assert f"{command} --output {tmp_path / 'none'}" in outcome.stderr


def test_pedestrians_are_found_where_download_unpacks_them(tmp_path: Path) -> None:
    write_ucsd(tmp_path / "ucsd/UCSD_Anomaly_Dataset.v1p2")
    (stage,) = stages_of(ReproduceConfig(targets=("table1",), data=tmp_path), "table1")
    assert stage.data == tmp_path / "ucsd/UCSD_Anomaly_Dataset.v1p2"


def test_full_runs_train_as_the_presets_say(root: Path) -> None:
    """The paper preset for MVTec AD, that of the data set for the others, or the tool's own."""
    config = ReproduceConfig(targets=("table2",), data=root)
    paper = one_class_stage(config, "mvtec", "bottle")
    assert (paper.guidance, paper.epochs, paper.batch_size) == ("none", 300, 16)
    assert (paper.learning_rate, paper.model.image_size, paper.limit) == (1e-4, 256, None)
    ucsd = one_class_stage(config, "ucsd", "UCSDped2")
    assert (ucsd.epochs, ucsd.attention, ucsd.model.image_size) == (40, "diff_mahal", 100)
    guided = one_class_stage(
        ReproduceConfig(targets=("figure6",), data=root, guided=True), "mvtec", "bottle"
    )
    own = TrainConfig()
    assert (guided.guidance, guided.epochs, guided.batch_size) == ("synthetic", own.epochs, 8)
    assert replace(guided, data=own.data, category=own.category, output=own.output) == replace(
        own, resume=True
    )
    assert guided.output != paper.output
    assert len(seeds(config)) == 5
    sprites = [s for s in stages_of(config, "table3") if isinstance(s, DisentangleConfig)]
    assert len(sprites) == 60
    assert {(s.method, s.beta) for s in sprites if s.method == "beta-vae"} == {
        ("beta-vae", beta) for beta in (1, 4, 6, 16)
    }
    assert {s.gamma for s in sprites if s.method == "factor-vae"} == {10, 20, 40, 100}
    assert len({s.output for s in sprites}) == 60


def test_a_training_of_table_3_that_fails_costs_no_other_entry(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(trainer: SpriteTrainer, batches: object) -> None:
        if trainer.config.method == "beta-vae":
            raise TrainingError("diverged")
        inner(trainer, batches)  # type: ignore[arg-type]

    inner = SpriteTrainer.train_step
    monkeypatch.setattr(costs, "time_sprites", lambda *_: TrainingCost(1.0, 0.0, 0.0))
    monkeypatch.setattr(SpriteTrainer, "train_step", diverge)
    outcome = reproduce(root, tmp_path, "table3", "--seeds", 1)
    assert outcome.code == 7
    assert "beta-vae:4, seed 0 of table3" in outcome.stderr.splitlines()[-1]
    rows = rows_of(tmp_path, "table3")
    assert (rows["beta-vae:4"]["mean"], rows["beta-vae:4"]["the paper"]) == (None, 0.73)
    assert rows["ad-factor-vae:40"]["minus factor-vae:40"] is not None
    markdown = (tmp_path / "reduced/table3/table3.md").read_text()
    assert "beta-vae:4, seed 0 failed: diverged" in markdown


def test_every_target_is_known_and_others_are_refused(root: Path) -> None:
    assert set(TARGETS) == {*TABLES, *FIGURES}
    outcome = run_cli("reproduce", "table4", "--data", root)
    assert outcome.code == 2
    assert "unknown table or figure table4; did you mean table" in outcome.stderr
    with pytest.raises(ConfigError, match="--guided is not supported with figure4"):
        ReproduceConfig(targets=("figure4",), guided=True)
    with pytest.raises(DataError, match="anomaly-cli download mnist"):
        stages_of(ReproduceConfig(targets=("figure4",), data=root / "none"), "figure4")


def test_guided_models_lie_apart(tmp_path: Path) -> None:
    write_category(tmp_path / "mvtec", "bottle", train=6, test=2)
    outcome = reproduce(tmp_path, tmp_path / "out", "figure6", "--guided")
    assert outcome.code == 0, outcome.stderr
    reduced = tmp_path / "out/reduced"
    assert (reduced / "figure6-guided/figure6-guided.png").is_file()
    assert (reduced / "runs/mvtec-guided/bottle/model.safetensors").is_file()
    assert not (reduced / "runs/mvtec").exists()
