"""Scores that hold one factor and watch which latent holds still with it.

Codes are encoded once, so that an image to draw is a row to look up.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from anomaly_cli.metrics.disentanglement.table import LatentTable

TRAIN_VOTES, TEST_VOTES = 10_000, 5_000
KIM_VOTES = 800
FACTOR_VAE_IMAGES = 100  # with the same value of the factor, for one vote
BETA_VAE_PAIRS = 64  # with the same value of the factor in both images, for one vote


class Votes(NamedTuple):
    """Which factor was held, and which latent varied least."""

    factors: NDArray[np.int64]  # (V,) places in `LatentTable.varying`
    latents: NDArray[np.int64]  # (V,) places among the active latents


def factor_vae_score(table: LatentTable, generator: np.random.Generator) -> float:
    """Share of 5,000 votes that a majority vote, fitted to 10,000 others, gets right; in [0, 1].

    Kim and Mnih 2018, with votes and pruning as disentanglement_lib has them. 0 if all latents are
    collapsed.
    """
    if not table.is_active.any():
        return 0.0
    votes = cast_votes(table, TRAIN_VOTES + TEST_VOTES, generator)
    train = Votes(votes.factors[:TRAIN_VOTES], votes.latents[:TRAIN_VOTES])
    test = Votes(votes.factors[TRAIN_VOTES:], votes.latents[TRAIN_VOTES:])
    return _majority_accuracy(train, test)


def factor_vae_score_kim800(table: LatentTable, generator: np.random.Generator) -> float:
    """The score as in the appendix of Kim and Mnih 2018; in [0, 1].

    800 votes fit the majority vote and measure it too, so that it is a little too high. 0 if all
    latents are collapsed.
    """
    if not table.is_active.any():
        return 0.0
    votes = cast_votes(table, KIM_VOTES, generator)
    return _majority_accuracy(votes, votes)


def cast_votes(table: LatentTable, count: int, generator: np.random.Generator) -> Votes:
    """Draw a factor, a value of it and images with that value; the latent of least variance votes.

    Variances are relative to those over all images. Factors are equally likely, and so are the
    values of each.
    """
    factors = generator.integers(len(table.varying), size=count)
    latents = np.empty(count, np.int64)
    for place, factor in enumerate(table.varying):
        held = np.flatnonzero(factors == place)
        values = generator.integers(table.factor_sizes[factor], size=(held.size, 1))
        values = np.repeat(values, FACTOR_VAE_IMAGES, axis=1)
        codes = table.standardized[table.groups[factor].draw(values, generator)]
        latents[held] = codes.var(axis=1, ddof=1).argmin(axis=1)
    return Votes(factors, latents)


def _majority_accuracy(train: Votes, test: Votes) -> float:
    counts = np.zeros((train.latents.max() + test.latents.max() + 1, train.factors.max() + 1))
    np.add.at(counts, (train.latents, train.factors), 1)
    return float((counts.argmax(axis=1)[test.latents] == test.factors).mean())


def beta_vae_score(table: LatentTable, generator: np.random.Generator) -> float:
    """Accuracy of a linear classifier that tells the factor two images share; in [0, 1].

    Higgins et al. 2017. Its input is the mean of |z1 - z2| over 64 pairs, each pair with its own
    value; logistic regression is fitted to 10,000 of them and measured on 5,000. Differences are in
    standard deviations of their latent, for the penalty of the fit to be free of units, and of
    active latents only. Without any it guesses: 1 / factors.
    """
    inputs = table.standardized if table.is_active.any() else np.zeros_like(table.codes)
    count = TRAIN_VOTES + TEST_VOTES
    factors = generator.integers(len(table.varying), size=count)
    differences = np.empty((count, inputs.shape[1]))
    for place, factor in enumerate(table.varying):
        held = np.flatnonzero(factors == place)
        values = generator.integers(table.factor_sizes[factor], size=(held.size, BETA_VAE_PAIRS))
        first, second = (table.groups[factor].draw(values, generator) for _ in range(2))
        differences[held] = np.abs(inputs[first] - inputs[second]).mean(axis=1)
    classifier = LogisticRegression(max_iter=1000)
    classifier.fit(differences[:TRAIN_VOTES], factors[:TRAIN_VOTES])
    return float(classifier.score(differences[TRAIN_VOTES:], factors[TRAIN_VOTES:]))
