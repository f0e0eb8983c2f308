"""Paired differences, pictures and curves of disentanglement, against values known beforehand."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.objectives import Entry, Method
from anomaly_cli.disentangle import charts
from anomaly_cli.disentangle.comparison import (
    compare_entries,
    compare_runs,
    paired_difference,
    score_table,
)
from anomaly_cli.disentangle.dsprites import IMAGE_COUNT, factors_of, open_dsprites
from anomaly_cli.disentangle.metrics import DisentanglementScores
from anomaly_cli.disentangle.pictures import (
    STEPS,
    TILE,
    attention_figure,
    choose_examples,
    information_figure,
    see_images,
    traverse,
)
from anomaly_cli.disentangle.report import choose_shown
from anomaly_cli.disentangle.runs import Run
from anomaly_cli.disentangle.scoring import encode_images, select_images
from anomaly_cli.disentangle.training import StepStats
from models.config import ConvVAEConfig
from models.conv import conv_vae

SPRITES = open_dsprites(None)
MODEL = ConvVAEConfig(image_size=64, channels=(4, 4, 4, 4), hidden=8, latent_dim=3)


def make_run(
    method: Method = "factor-vae", seed: int = 0, *, weight: float = 40.0, factor_vae: float = 0.5
) -> Run:
    """Build a run of 20 reports whose loss falls from 20 to 1 and that has no discriminator."""
    torch.manual_seed(0)
    nan = math.nan
    settings = asdict(DisentangleConfig().objective(method, weight)) | {"seed": seed}
    settings["lambda"] = settings.pop("overlap")
    return Run(
        folder=Path(),
        vae=conv_vae(MODEL).eval(),
        record={"method": method, "settings": settings},
        scores=DisentanglementScores(factor_vae, *[0.0] * 8, active_latents=3),
        information=np.zeros((5, 3)),
        history=[
            StepStats(step, 21.0 - step, 1.0, nan, nan, 0.5, 0.5, 0.0, 3, 1.0)
            for step in range(1, 21)
        ],
    )


def test_paired_interval_is_students() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1; t of 2 degrees at 97.5% is 4.3027."""
    row = paired_difference("score", [1, 1, 1], [2, 3, 4])
    reach = 4.302653 / math.sqrt(3)
    assert (row.first, row.second, row.mean, row.pairs) == (1, 3, 2, 3)
    assert (row.low, row.high) == pytest.approx((2 - reach, 2 + reach), abs=1e-5)


def test_one_pair_has_no_interval_and_an_undefined_score_is_left_out() -> None:
    single = paired_difference("score", [0.4], [0.5])
    assert single.mean == pytest.approx(0.1)
    assert math.isnan(single.low)
    partly = paired_difference("score", [0.4, math.nan, 0.4], [0.5, 0.5, 0.7])
    assert partly.pairs == 2
    assert partly.mean == pytest.approx(0.2)


def test_runs_are_compared_seed_by_seed_and_over_the_last_tenth() -> None:
    """Reports 19 and 20 have a reconstruction of 2 and 1."""
    first = [make_run(seed=seed, factor_vae=value) for seed, value in enumerate((0.1, 0.4))]
    second = [make_run("ad-factor-vae", seed, factor_vae=0.5) for seed in range(2)]
    rows = {row.name: row for row in compare_runs(first, second)}
    assert rows["factor_vae"].differences == pytest.approx((0.4, 0.1))
    assert rows["reconstruction"].first == 1.5
    assert rows["active_latents"].mean == 0


def test_entries_are_compared_with_the_first_on_shared_seeds_and_with_the_paper() -> None:
    """The reference has seeds 0, 1 and 2, the other entry 1 and 2: differences 0.2 and 0.4."""
    reference, other, missing = (Entry("factor-vae", weight) for weight in (40.0, 10.0, 7.0))
    runs = [make_run(seed=seed, factor_vae=0.1 * seed) for seed in (2, 0, 1)]
    runs += [
        make_run(seed=seed, weight=10.0, factor_vae=value) for seed, value in ((1, 0.3), (2, 0.6))
    ]
    found = compare_entries([reference, other, missing], runs)
    first, second, third = found.summaries
    assert [run.seed for run in first.runs] == [0, 1, 2]
    assert first.factor_vae == pytest.approx((0.1, 0.1))
    assert (first.paper, second.paper, third.paper) == (0.82, 0.75, None)
    assert first.deviation == pytest.approx(0.1 - 0.82)
    assert (first.difference, third.difference, third.runs) == (None, None, [])
    assert second.seeds == [1, 2]
    assert second.difference is not None
    assert second.difference.differences == pytest.approx((0.2, 0.4))
    assert (second.difference.first, second.difference.second) == pytest.approx((0.15, 0.45))
    table = score_table(found, "title", {"factor-vae:7, seed 0": ValueError("diverged")})
    assert list(table.rows) == ["factor-vae:40", "factor-vae:10", "factor-vae:7"]
    assert table.columns[4] == "minus factor-vae:40"
    assert table.rows["factor-vae:10"][4] == pytest.approx(0.3)
    assert all(map(math.isnan, table.rows["factor-vae:7"]))
    assert "over 3 seeds (factor-vae:10 2, factor-vae:7 0)." in table.notes[1]
    assert table.notes[-1] == "factor-vae:7, seed 0 failed: diverged"


def test_other_weights_than_the_papers_have_no_score_of_the_paper() -> None:
    run = make_run("ad-factor-vae")
    (own,) = compare_entries([run.entry], [run]).summaries
    assert own.paper == 0.93
    run.record["settings"]["lambda"] = 2.0
    (own,) = compare_entries([run.entry], [run]).summaries
    assert own.paper is None


def test_of_many_entries_the_reference_and_the_best_of_each_method_are_drawn() -> None:
    scores = {10.0: 0.2, 20.0: 0.9, 40.0: 0.5, 80.0: math.nan}
    runs = [make_run(weight=weight, factor_vae=value) for weight, value in scores.items()]
    entries = [run.entry for run in runs]
    assert choose_shown(runs, compare_entries(entries, runs)) == runs
    runs.append(make_run("beta-vae", weight=4.0, factor_vae=0.1))
    entries = [run.entry for run in runs]
    chosen = choose_shown(runs, compare_entries(entries, runs))
    assert [run.entry.label for run in chosen] == ["factor-vae:10", "factor-vae:20", "beta-vae:4"]


def test_curves_leave_out_what_no_run_has() -> None:
    panels = charts.make_panels([make_run(), make_run("ad-factor-vae")])
    titles = [panel.title for panel in panels]
    assert "reconstruction, nats per image" in titles
    assert "total correlation, nats" not in titles
    loss = panels[0]
    assert (loss.low, loss.high, loss.steps) == (1, 19, 20)
    assert [line.entry for line in loss.lines] == [0, 1]
    assert loss.lines[0].points[-1].tolist() == [1, 0]
    assert charts.svg_path(loss.lines[0]).endswith("300.0 150.0")


def test_a_curve_is_drawn_from_the_upper_left_to_the_lower_right() -> None:
    picture = charts.curves_figure([make_run()]).astype(int)
    is_blue = (picture[..., 2] - picture[..., 0] > 100)[150:330]
    columns = np.flatnonzero(is_blue[:, :400].any(axis=0))
    first, last = (
        np.flatnonzero(is_blue[:, column]).mean() for column in (columns[0], columns[-1])
    )
    assert first < last - 100


def test_the_two_highest_latents_are_those_with_the_largest_maps() -> None:
    run = make_run()
    images = SPRITES.images(choose_examples(SPRITES, 4))
    for seen in see_images(run, images):
        sums = seen.maps.sum(axis=(1, 2))
        assert sums[0] >= sums[1]
        assert len(set(seen.latents)) == 2
        assert 0 <= seen.shares[1] <= seen.shares[0] <= 1
        assert sum(seen.shares) <= 1 + 1e-6


def test_a_model_without_attention_is_drawn_dark() -> None:
    """All maps empty: no division by zero, and no colour but that of the bar."""
    run = make_run()
    with torch.no_grad():
        for parameter in run.vae.encoder.parameters():
            parameter.zero_()
    images = SPRITES.images(choose_examples(SPRITES, 2))
    picture = attention_figure([run], images).astype(int)
    tiles = picture[: -TILE // 2]
    assert np.ptp(tiles, axis=2).max() == 0


def test_examples_show_each_shape_in_turn() -> None:
    examples = choose_examples(SPRITES, 6)
    assert factors_of(examples)[:, 0].tolist() == [0, 1, 2, 0, 1, 2]
    assert np.array_equal(examples, choose_examples(SPRITES, 6))


def test_a_traversal_moves_one_latent_at_a_time() -> None:
    """Where a latent is at its own mean, all rows show the same image."""
    run = make_run()
    with torch.no_grad():
        run.vae.encoder.mu.weight.zero_()
        run.vae.encoder.mu.bias.zero_()
        run.vae.encoder.logvar.weight.zero_()
        run.vae.encoder.logvar.bias.zero_()
    frames, divergence = traverse(run, SPRITES.images(np.array([0]))[0])
    middle = STEPS.index(0.0)
    assert frames.shape == (3, len(STEPS), 64, 64)
    assert np.array_equal(frames[0, middle], frames[2, middle])
    assert not np.array_equal(frames[0, 0], frames[2, 0])
    assert divergence.tolist() == [0, 0, 0]


def test_a_factor_that_a_latent_determines_has_a_blue_cell() -> None:
    run = make_run()
    blank = information_figure(run)
    run.information[3, 1] = math.log(32)
    figure = information_figure(run)
    blue = (figure == (11, 98, 196)).all(axis=2)
    assert not (blank == (11, 98, 196)).all(axis=2).any()
    assert blue.sum() == 64 * 32


def test_scored_images_are_distinct_and_in_order() -> None:
    chosen = select_images(IMAGE_COUNT, 5000, seed=1)
    assert len(set(chosen.tolist())) == 5000
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, select_images(IMAGE_COUNT, 5000, seed=1))
    assert np.array_equal(select_images(10, None, seed=0), np.arange(10))
    assert np.array_equal(select_images(10, 20, seed=0), np.arange(10))


def test_codes_are_posterior_means_in_the_order_of_the_images() -> None:
    run, calls = make_run(), []
    indices = np.arange(0, 7000, 10)
    codes = encode_images(
        run.vae, SPRITES, indices, torch.device("cpu"), lambda: calls.append(None)
    )
    images = torch.from_numpy(SPRITES.images(indices[[0, 699]])).float()[:, None]
    expected = run.vae.encode(images).mu.detach().numpy()
    np.testing.assert_allclose(codes[[0, 699]], expected, atol=1e-5)
    assert len(calls) == 2
