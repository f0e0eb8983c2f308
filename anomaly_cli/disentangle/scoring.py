"""Encode the images once, and compute every score from their codes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly_cli.disentangle.dsprites import FACTOR_SIZES, SpriteImages, factors_of
from anomaly_cli.disentangle.metrics import (
    DisentanglementScores,
    disentanglement_scores,
    mutual_information,
)
from anomaly_cli.disentangle.training import to_tensor
from models.vae import VAE

BATCH = 512  # images that are encoded at a time


class Scored(NamedTuple):
    """Disentanglement scores of one model, and the mutual information of factors and latents."""

    scores: DisentanglementScores
    information: NDArray[np.float64]  # (K, D), nats


def select_images(count: int, wanted: int | None, *, seed: int) -> NDArray[np.int64]:
    """Choose the images to score: all, or `wanted` distinct random ones in ascending order."""
    if wanted is None or wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, 0]).choice(count, wanted, replace=False))


@torch.no_grad()
def encode_images(
    vae: VAE,
    sprites: SpriteImages,
    indices: NDArray[np.int64],
    device: torch.device,
    advance: Callable[[], object],
) -> NDArray[np.float32]:
    """Encode images to posterior means (N, D), and call `advance` after each batch."""
    codes = []
    for start in range(0, len(indices), BATCH):
        images = to_tensor(sprites.images(indices[start : start + BATCH]), device)
        codes.append(vae.encode(images).mu.cpu().numpy())
        advance()
    return np.concatenate(codes)


def score_codes(codes: NDArray[np.float32], indices: NDArray[np.int64], *, seed: int) -> Scored:
    """Score the codes (N, D) of the images with the indices (N,)."""
    factors = factors_of(indices)
    scores = disentanglement_scores(codes, factors, factor_sizes=FACTOR_SIZES, seed=seed)
    return Scored(scores, mutual_information(codes, factors, factor_sizes=FACTOR_SIZES))


TITLES = {
    "factor_vae": "FactorVAE score",
    "factor_vae_kim800": "FactorVAE score, 800 votes",
    "beta_vae": "beta-VAE score",
    "mig": "MIG",
    "sap": "SAP",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
    "modularity": "modularity",
    "reconstruction": "reconstruction, nats",
    "kl": "KL, nats",
    "overlap": "overlap of attention",
    "shape_overlap": "overlap of maps scaled to sum 1",
    "empty_maps": "share of empty maps",
    "active_latents": "active latents",
}
