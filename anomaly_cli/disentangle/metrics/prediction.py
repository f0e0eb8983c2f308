"""Scores of predicting the factors of unseen images from their codes: SAP and DCI."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import LinearSVC

from anomaly_cli.disentangle.metrics.table import LatentTable

TRAIN_IMAGES, TEST_IMAGES = 10_000, 5_000
TREES = 10
LEAF_IMAGES = 20  # at least; smaller leaves fit noise and count it as importance


class Split(NamedTuple):
    """Disjoint rows of a table, to fit predictors and to test them."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness; each in [0, 1], higher is better."""

    disentanglement: float  # each latent matters to one factor; NaN if no latent matters
    completeness: float  # each factor needs one latent; NaN if no latent matters
    informativeness: float  # share of factor values that are predicted right


def draw_split(table: LatentTable, generator: np.random.Generator) -> Split:
    """Draw 10,000 images to fit and 5,000 to test; of fewer, two thirds and one third."""
    count = min(len(table.codes), TRAIN_IMAGES + TEST_IMAGES)
    rows = generator.choice(len(table.codes), count, replace=False)
    cut = count * TRAIN_IMAGES // (TRAIN_IMAGES + TEST_IMAGES)
    return Split(rows[:cut], rows[cut:])


def separated_attribute_predictability(table: LatentTable, generator: np.random.Generator) -> float:
    """Compute the separated attribute predictability (SAP) of Kumar et al. 2018; in [0, 1].

    For each factor, the accuracy of the latent that predicts it best minus that of the second is
    averaged over the factors. As in disentanglement_lib, the predictor is a linear support vector
    machine (C = 0.01, balanced) on one latent. Codes are standardized, so that the penalty has no
    units, and a collapsed latent predicts nothing. Linear machines can separate few of 40 values on
    one line: a perfect code of dSprites has a SAP of about 0.25.
    """
    split = draw_split(table, generator)
    accuracy = np.zeros((len(table.varying), table.codes.shape[1] + 1))
    seed = int(generator.integers(2**31))
    for place, factor in enumerate(table.varying):
        labels = table.factors[:, factor]
        for latent in range(table.standardized.shape[1]):
            codes = table.standardized[:, latent : latent + 1]
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
            machine.fit(codes[split.train], labels[split.train])
            accuracy[place, latent] = machine.score(codes[split.test], labels[split.test])
    ranked = np.sort(accuracy, axis=1)
    return float((ranked[:, -1] - ranked[:, -2]).mean())


def dci_scores(table: LatentTable, generator: np.random.Generator) -> DCI:
    """Compute the DCI of a random forest on all latents.

    Eastwood and Williams 2018 use the importances of a forest; disentanglement_lib boosts trees,
    which takes minutes. Every split may choose among all latents, so that chance gives no latent
    importance.
    """
    split = draw_split(table, generator)
    seed = int(generator.integers(2**31))
    importances, accuracies = [], []
    for factor in table.varying:
        labels = table.factors[:, factor]
        forest = RandomForestClassifier(
            TREES, max_features=None, min_samples_leaf=LEAF_IMAGES, random_state=seed
        )
        forest.fit(table.codes[split.train], labels[split.train])
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(table.codes[split.test], labels[split.test]))
    importance = np.array(importances)
    return DCI(
        disentanglement=concentration(importance.T),
        completeness=concentration(importance),
        informativeness=float(np.mean(accuracies)),
    )


def concentration(importance: NDArray[np.float64]) -> float:
    """Average 1 - normalised entropy over the rows, weighted by their sums.

    It is 1 if every row has one entry that is not 0, and 0 if all entries of each row are equal.
    NaN if all entries are 0, or there is only one column.
    """
    totals = importance.sum(axis=1)
    columns = importance.shape[1]
    if totals.sum() == 0 or columns == 1:
        return math.nan
    share = importance[totals > 0] / totals[totals > 0, None]
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=1) / math.log(columns)
    return float(np.average(1 - entropy, weights=totals[totals > 0]))
