"""The training loop: it learns, repeats itself, resumes exactly, and stops at a NaN."""

import copy
import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import torch

from anomaly_cli.config.names import STATE_FILE
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.errors import CheckpointError, TrainingError
from anomaly_cli.files.tensors import write_state
from anomaly_cli.progress import Unit
from anomaly_cli.training import fit
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.loop import EpochStats, StepStats, Trainer, to_csv
from anomaly_cli.training.objectives import VAE_LOSSES
from anomaly_cli.training.resume import resume_training, save_state, training_settings
from models.config import VAEConfig

CONFIG = TrainConfig(
    epochs=4,
    batch_size=4,
    model=VAEConfig(image_size=32, latent_dim=4),
    augmentation="bottle",
    guidance="none",
    half_size=0.0,
    learning_rate=1e-3,
    images_seen=0,
)


GUIDED = replace(CONFIG, guidance="synthetic")
# Half of 64 pixels for two of the four epochs.
HALVED = replace(CONFIG, model=VAEConfig(image_size=64, latent_dim=4), half_size=0.5)
HALVED_GUIDED = replace(HALVED, guidance="synthetic")


CPU = torch.device("cpu")


@pytest.fixture
def make_trainer(mvtec: Path) -> Callable[[TrainConfig], Trainer]:
    """Make trainers on the 10 normal images of `disc`, all from the same start."""

    def make(config: TrainConfig) -> Trainer:
        config = replace(config, data=mvtec, category="disc", held_out=0.2)
        return fit.make_trainer(config, open_training_set(config), CPU)

    return make


Make = Callable[[TrainConfig], Trainer]


def final_weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Train to the end."""
    for _stats in trainer.run():
        pass
    return trainer.network.state_dict()


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_loss_falls_and_the_best_epoch_is_kept(make_trainer: Make) -> None:
    trainer = make_trainer(replace(CONFIG, epochs=5))
    epochs = [stats for stats in trainer.run() if isinstance(stats, EpochStats)]
    assert [stats.epoch for stats in epochs] == list(range(1, 6))
    assert epochs[-1].losses[0] < 0.95 * epochs[0].losses[0]
    best = min(stats.held_out_loss for stats in epochs)
    assert trainer.best_loss == best
    assert [stats.is_best for stats in epochs].count(True) >= 2
    trainer.network.load_state_dict(trainer.best_weights)
    assert trainer.objective.held_out_losses().selection == pytest.approx(best, rel=1e-6)


@pytest.mark.usefixtures("thin_network")
def test_steps_cover_whole_batches(make_trainer: Make) -> None:
    """Eight images in batches of three: two steps of three, the rest waits for the next epoch."""
    trainer = make_trainer(replace(CONFIG, batch_size=3, epochs=1))
    steps = [stats for stats in trainer.run() if isinstance(stats, StepStats)]
    assert [(stats.step, stats.steps, stats.images) for stats in steps] == [(1, 2, 3), (2, 2, 3)]


@pytest.mark.usefixtures("thin_network")
def test_five_steps_in_all_are_enough(make_trainer: Make) -> None:
    """A fifth of them is one step, over which no learning rate can rise."""
    trainer = make_trainer(replace(CONFIG, epochs=5, batch_size=100))
    assert trainer.steps == 1
    assert len(list(trainer.run())) == 10  # a step and the end of each epoch


@pytest.mark.usefixtures("thin_network")
@pytest.mark.parametrize("config", [CONFIG, GUIDED], ids=["plain", "guided"])
def test_same_seed_same_weights_other_seed_others(make_trainer: Make, config: TrainConfig) -> None:
    config = replace(config, epochs=2)
    first = final_weights(make_trainer(config))
    assert_same(first, final_weights(make_trainer(config)))
    other = final_weights(make_trainer(replace(config, seed=1)))
    assert not torch.equal(first["encoder.mu.weight"], other["encoder.mu.weight"])


def train_keeping_states(trainer: Trainer, stops: set[int]) -> dict[int, dict[str, Any]]:
    """Train to the end, and copy the state after some of the epochs."""
    states = {}
    for stats in trainer.run():
        if isinstance(stats, EpochStats) and stats.epoch in stops:
            states[stats.epoch] = copy.deepcopy(trainer.state_dict())
    return states


def require_exact_resumption(make_trainer: Make, config: TrainConfig, stops: set[int]) -> None:
    """Take a training up in new trainers after some of its epochs: bit-identical."""
    undisturbed = make_trainer(config)
    states = train_keeping_states(undisturbed, stops)
    assert set(states) == stops
    for state in states.values():
        resumed = make_trainer(config)
        resumed.load_state_dict(copy.deepcopy(state))
        assert_same(undisturbed.network.state_dict(), final_weights(resumed))
        assert resumed.best_loss == undisturbed.best_loss
        assert_same(undisturbed.best_weights, resumed.best_weights)
        assert resumed.best_size >= state["best_size"]
        if resumed.best_size == state["best_size"]:
            assert resumed.best_loss <= state["best_loss"]


@pytest.mark.usefixtures("thin_network")
@pytest.mark.parametrize(
    ("config", "stops"),
    [
        (CONFIG, {2}),
        (GUIDED, {2}),
        (HALVED, {1, 2, 3}),  # before, at and after the change of size
        (HALVED_GUIDED, {1, 2, 3}),
        (replace(HALVED_GUIDED, amp=True), {1, 2, 3}),
    ],
    ids=["plain", "guided", "half-size", "half-size guided", "half-size guided bfloat16"],
)
def test_resumed_training_ends_in_the_same_weights(
    make_trainer: Make, config: TrainConfig, stops: set[int]
) -> None:
    require_exact_resumption(make_trainer, config, stops)


def test_resumed_training_of_the_whole_network_ends_in_the_same_weights(
    make_trainer: Make,
) -> None:
    require_exact_resumption(make_trainer, replace(HALVED_GUIDED, epochs=2), {1})


class Recorder:
    """A progress that remembers its last bar; the bar is its own context."""

    is_shown = False
    seconds_left = None

    def __init__(self) -> None:
        self.title = ""
        self.total: float | None = None
        self.begun = self.done = 0.0

    def note(self, message: str) -> None:
        """Forget a message."""

    warn = error = note

    def bar(
        self, title: str, *, total: float | None = None, done: float = 0.0, unit: Unit = "items"
    ) -> Self:
        """Begin a bar."""
        assert unit == "share"
        self.title, self.total, self.begun, self.done = title, total, done, done
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the bar."""

    def advance(self, amount: float = 1.0, *, title: str = "", status: str = "") -> None:
        """Add to the bar."""
        assert title or status
        self.done += amount

    def reach(self, done: float, total: float | None) -> None:
        """Refuse: a training advances."""
        raise NotImplementedError


@pytest.mark.usefixtures("thin_network")
@pytest.mark.parametrize("done", [0, 1, 3])
def test_progress_weighs_steps_by_their_cost_and_ends_at_its_total(
    mvtec: Path, tmp_path: Path, done: int
) -> None:
    """Two epochs cost a quarter and two the whole, also in a training that is resumed."""
    config = replace(HALVED, data=mvtec, category="disc", held_out=0.2)
    images = open_training_set(config)
    config = fit.settle(config, len(images.fit), CPU)
    trainer, history = fit.make_trainer(config, images, CPU), list[EpochStats]()
    for stats in trainer.run():
        if isinstance(stats, EpochStats):
            history.append(stats)
        if trainer.epoch == done:
            break
    progress = Recorder()
    save_state(tmp_path / STATE_FILE, trainer, training_settings(config, images.split), history)
    fit.train_category(config, tmp_path, CPU, is_resumed=done > 0, progress=progress)
    assert progress.title == "disc"
    assert progress.total == 2.5 * trainer.steps
    assert progress.begun == {0: 0, 1: 0.25, 3: 1.5}[done] * trainer.steps
    assert progress.done == pytest.approx(progress.total)


@pytest.mark.usefixtures("thin_network")
def test_a_resumed_training_keeps_better_weights_of_the_same_size(make_trainer: Make) -> None:
    """No epoch reaches the loss that the state remembers, so none may replace its weights."""
    first = make_trainer(HALVED)
    for stats in first.run():
        if isinstance(stats, EpochStats) and stats.epoch == 3:
            break
    first.best_loss = 0.0
    second = make_trainer(HALVED)
    second.load_state_dict(first.state_dict())
    final_weights(second)
    assert second.best_loss == 0
    assert_same(first.best_weights, second.best_weights)


@pytest.mark.usefixtures("thin_network")
@pytest.mark.parametrize("config", [HALVED, HALVED_GUIDED], ids=["plain", "guided"])
def test_small_images_come_first_and_never_select_the_model(
    make_trainer: Make, config: TrainConfig
) -> None:
    trainer = make_trainer(config)
    seen = list(trainer.run())
    steps = [(s.epoch, s.image_size) for s in seen if isinstance(s, StepStats)]
    assert set(steps) == {(1, 32), (2, 32), (3, 64), (4, 64)}
    epochs = [stats for stats in seen if isinstance(stats, EpochStats)]
    assert [stats.image_size for stats in epochs] == [32, 32, 64, 64]
    assert epochs[0].is_best
    assert epochs[2].is_best  # whatever the losses of the first two
    assert trainer.best_size == 64
    assert trainer.best_loss == min(stats.held_out_loss for stats in epochs[2:])
    if config.guidance == "none":  # the statistics of guidance have moved on since
        trainer.network.load_state_dict(trainer.best_weights)
        selection = trainer.objective.held_out_losses().selection
        assert selection == pytest.approx(trainer.best_loss, rel=1e-6)


@pytest.mark.usefixtures("thin_network")
def test_guided_training_evaluates_held_out_images_in_some_epochs(make_trainer: Make) -> None:
    """At the first epoch, and at every third of 22 up to the last; the others select nothing."""
    trainer = make_trainer(replace(GUIDED, epochs=22, batch_size=8))
    epochs = [stats for stats in trainer.run() if isinstance(stats, EpochStats)]
    evaluated = [stats for stats in epochs if stats.held_out_loss is not None]
    assert [stats.epoch for stats in evaluated] == [1, *range(4, 23, 3)]
    assert trainer.best_loss == min(stats.held_out_loss for stats in evaluated)
    assert not any(stats.is_best for stats in epochs if stats not in evaluated)
    rows = list(csv.DictReader(io.StringIO(to_csv(epochs, VAE_LOSSES))))
    assert [row["held_out_kl"] == "" for row in rows] == [
        stats not in evaluated for stats in epochs
    ]
    assert replace(CONFIG, epochs=21).epochs_per_evaluation == 1  # the paper's
    assert [replace(GUIDED, epochs=n).epochs_per_evaluation for n in (1, 8, 17)] == [1, 1, 3]


@pytest.mark.usefixtures("thin_network")
def test_a_training_stopped_between_two_evaluations_keeps_the_model_of_the_last(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated after the first epoch, the second and the last; stopped after the third of four."""
    monkeypatch.setattr("anomaly_cli.config.train.EVALUATIONS", 2)
    assert GUIDED.epochs_per_evaluation == 2
    undisturbed, second = make_trainer(GUIDED), make_trainer(GUIDED)
    state = train_keeping_states(undisturbed, {3})[3]
    assert state["best_weights"]
    second.load_state_dict(state)
    final_weights(second)
    assert second.best_loss == undisturbed.best_loss
    assert_same(undisturbed.best_weights, second.best_weights)


@pytest.mark.usefixtures("thin_network")
def test_decoder_draws_the_size_that_training_begins_with(make_trainer: Make) -> None:
    """It would have to learn anew what it draws, in the few epochs that see whole images."""
    vae = make_trainer(HALVED).network
    assert HALVED.network.rebuilds_half
    assert vae.rebuilt_size == 32
    for size in (32, 64):
        images = torch.rand(2, 3, size, size)
        assert vae(images).logits.shape == vae.targets(images).shape == (2, 3, 32, 32)
    assert not replace(HALVED, half_size=0).network.rebuilds_half
    assert not CONFIG.network.rebuilds_half


def test_epochs_at_half_the_size_leave_one_at_the_whole() -> None:
    assert replace(HALVED, epochs=40, half_size=0.75).half_epochs == 30
    assert replace(HALVED, epochs=1, half_size=0.75).half_epochs == 0
    assert replace(HALVED, epochs=2, half_size=0.99).half_epochs == 1
    assert CONFIG.half_epochs == 0


@pytest.mark.usefixtures("thin_network")
def test_divergence_stops_and_keeps_the_last_good_weights(make_trainer: Make) -> None:
    trainer = make_trainer(CONFIG)
    run = trainer.run()
    for stats in run:
        if isinstance(stats, EpochStats):
            break
    with torch.no_grad():
        trainer.network.encoder.mu.weight.fill_(torch.inf)
    with pytest.raises(TrainingError, match=r"diverged in epoch 2, step 1.*--learning-rate"):
        list(run)
    assert all(torch.isfinite(tensor).all() for tensor in trainer.best_weights.values())


@pytest.mark.usefixtures("thin_network")
def test_a_step_that_diverges_moves_no_weight(make_trainer: Make) -> None:
    trainer = make_trainer(CONFIG)
    before = trainer.network.decoder[0].weight.detach().clone()
    with torch.no_grad():
        trainer.network.encoder.logvar.bias.fill_(1e4)
    with pytest.raises(TrainingError):
        list(trainer.run())
    assert torch.equal(trainer.network.decoder[0].weight, before)


@pytest.mark.usefixtures("thin_network")
def test_gradients_are_clipped(make_trainer: Make) -> None:
    """A norm of 1e-12 leaves Adam's step at the size of its epsilon: the weights hardly move."""
    trainer = make_trainer(replace(CONFIG, gradient_clip=1e-12, epochs=1))
    before = trainer.network.encoder.mu.weight.detach().clone()
    final_weights(trainer)
    assert (trainer.network.encoder.mu.weight - before).abs().max() < 1e-6


def test_amp_trains_in_bfloat16(make_trainer: Make) -> None:
    trainer, plain = (make_trainer(replace(CONFIG, amp=amp, epochs=1)) for amp in (True, False))
    weights, of_plain = final_weights(trainer), final_weights(plain)
    assert weights["encoder.mu.weight"].dtype == torch.float32
    assert not torch.equal(weights["encoder.mu.weight"], of_plain["encoder.mu.weight"])
    assert trainer.best_loss == pytest.approx(plain.best_loss, rel=0.05)


@pytest.mark.usefixtures("thin_network")
def test_a_state_of_another_network_is_refused(make_trainer: Make, tmp_path: Path) -> None:
    trainer = make_trainer(CONFIG)
    save_state(tmp_path / STATE_FILE, trainer, {"seed": 0}, [])
    other = make_trainer(replace(CONFIG, model=VAEConfig(image_size=32, latent_dim=5)))
    with pytest.raises(CheckpointError, match="does not belong to this model"):
        resume_training(tmp_path / STATE_FILE, other, {"seed": 0})
    write_state(tmp_path / STATE_FILE, {"settings": "none"})
    with pytest.raises(CheckpointError, match="does not belong to this model"):
        resume_training(tmp_path / STATE_FILE, trainer, {"seed": 0})
