"""All disentanglement scores of one model."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.disentangle.dsprites import FACTOR_SIZES
from anomaly_cli.disentangle.metrics import information, prediction, votes
from anomaly_cli.disentangle.metrics.table import LatentTable


class DisentanglementScores(NamedTuple):
    """Scores of one model; each in [0, 1], higher is better, NaN if undefined."""

    factor_vae: float  # 10,000 votes to fit, 5,000 others to measure
    factor_vae_kim800: float  # 800 votes for both, as the papers report it
    beta_vae: float
    mig: float  # 20 bins
    sap: float
    dci_disentanglement: float  # NaN if no latent matters to any factor, or there is one factor
    dci_completeness: float  # NaN if no latent matters to any factor, or there is one latent
    dci_informativeness: float
    modularity: float  # NaN if no active latent informs about any factor
    active_latents: int  # of D, not a score


def disentanglement_scores(
    codes: NDArray[np.float32],
    factors: NDArray[np.int64],
    *,
    factor_sizes: Sequence[int] = FACTOR_SIZES,
    seed: int = 0,
) -> DisentanglementScores:
    """Compute every score of the codes of images, in some seconds.

    Each score has its own random generator: it depends on the seed, but not on the other scores.

    Args:
        codes: posterior means of all images, or of any part in which every factor value occurs
            twice, shape (N, D).
        factors: factor values of the images, shape (N, K).
        factor_sizes: number of values of each factor; factors with one value are left out.
        seed: seed of votes, samples and forests.

    Raises:
        DataError: a code is not finite, or fewer than two images show some value of a factor.
        ValueError: shapes do not agree, or a factor value is out of range.
    """
    table = LatentTable(codes=codes, factors=factors, factor_sizes=factor_sizes)
    generators = np.random.default_rng(seed).spawn(5)
    shared = information.mutual_information(codes, factors, factor_sizes=factor_sizes)
    shared = shared[table.varying]
    entropies = information.factor_entropies(factors, factor_sizes)[table.varying]
    dci = prediction.dci_scores(table, generators[4])
    return DisentanglementScores(
        factor_vae=votes.factor_vae_score(table, generators[0]),
        factor_vae_kim800=votes.factor_vae_score_kim800(table, generators[1]),
        beta_vae=votes.beta_vae_score(table, generators[2]),
        mig=information.mutual_information_gap(shared, entropies),
        sap=prediction.separated_attribute_predictability(table, generators[3]),
        dci_disentanglement=dci.disentanglement,
        dci_completeness=dci.completeness,
        dci_informativeness=dci.informativeness,
        modularity=information.modularity(shared, table.is_active),
        active_latents=int(table.is_active.sum()),
    )
