"""Scores from images that share the value of one factor: FactorVAE and beta-VAE score.

All images are encoded once, so that drawing an image is looking up a row of the table.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from anomaly_cli.disentangle.metrics.table import LatentTable

TRAIN_VOTES, TEST_VOTES = 10_000, 5_000
KIM_VOTES = 800
FACTOR_VAE_IMAGES = 100  # with the same value of the factor, for one vote
BETA_VAE_PAIRS = 64  # with the same value of the factor in both images, for one vote


class Votes(NamedTuple):
    """The fixed factor of each vote, and the latent that varied least."""

    factors: NDArray[np.int64]  # (V,) places in `LatentTable.varying`
    latents: NDArray[np.int64]  # (V,) places among the active latents


def factor_vae_score(table: LatentTable, generator: np.random.Generator) -> float:
    """Compute the FactorVAE score of Kim and Mnih 2018; in [0, 1].

    It is the accuracy on 5,000 votes of a majority vote that was fitted to 10,000 others. Votes and
    pruning are as in disentanglement_lib. 0 if all latents are collapsed.
    """
    if not table.is_active.any():
        return 0.0
    votes = cast_votes(table, TRAIN_VOTES + TEST_VOTES, generator)
    train = Votes(votes.factors[:TRAIN_VOTES], votes.latents[:TRAIN_VOTES])
    test = Votes(votes.factors[TRAIN_VOTES:], votes.latents[TRAIN_VOTES:])
    return _majority_accuracy(train, test)


def factor_vae_score_kim800(table: LatentTable, generator: np.random.Generator) -> float:
    """Compute the FactorVAE score as in the appendix of Kim and Mnih 2018; in [0, 1].

    The majority vote is fitted to 800 votes and tested on the same, so the score is a little too
    high. 0 if all latents are collapsed.
    """
    if not table.is_active.any():
        return 0.0
    votes = cast_votes(table, KIM_VOTES, generator)
    return _majority_accuracy(votes, votes)


def cast_votes(table: LatentTable, count: int, generator: np.random.Generator) -> Votes:
    """Cast votes on the latent that represents a factor.

    For each vote a factor, one of its values and images with that value are drawn. The vote goes to
    the latent with the least variance, relative to that over all images. Factors are equally
    likely, and so are the values of each.
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
    """Compute the beta-VAE score of Higgins et al. 2017; in [0, 1].

    It is the accuracy of a linear classifier of the factor that two images share. The input is the
    mean of |z1 - z2| over 64 pairs of images, each pair with its own value of the factor. Logistic
    regression is fitted to 10,000 such means and tested on 5,000. Differences are in standard
    deviations of their latent, so that the penalty of the fit has no units. Only active latents
    are used; without any the classifier guesses: 1 / number of factors.
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
