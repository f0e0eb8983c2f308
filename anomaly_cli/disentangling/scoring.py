"""All images through the encoder once; every score is arithmetic on their codes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly_cli.data.dsprites import FACTOR_SIZES, SpriteImages, factors_of
from anomaly_cli.disentangling.training import to_tensor
from anomaly_cli.metrics.disentanglement import (
    DisentanglementScores,
    disentanglement_scores,
    mutual_information,
)
from models.vae import VAE

BATCH = 512  # images that are encoded at a time


class Scored(NamedTuple):
    """How well the latents of one model stand for the factors."""

    scores: DisentanglementScores
    information: NDArray[np.float64]  # (K, D), nats


def select_images(count: int, wanted: int | None, *, seed: int) -> NDArray[np.int64]:
    """Indices of the images that are scored: all of them, or `wanted` distinct ones in order."""
    if wanted is None or wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, 0]).choice(count, wanted, replace=False))


@torch.no_grad()
def encode_images(
    vae: VAE,
    sprites: SpriteImages,
    indices: NDArray[np.int64],
    device: torch.device,
    advance: Callable[[], None],
) -> NDArray[np.float32]:
    """Posterior means (N, D) of images by index; calls `advance` after each batch."""
    codes = []
    for start in range(0, len(indices), BATCH):
        images = to_tensor(sprites.images(indices[start : start + BATCH]), device)
        codes.append(vae.encode(images).mu.cpu().numpy())
        advance()
    return np.concatenate(codes)


def score_codes(codes: NDArray[np.float32], indices: NDArray[np.int64], *, seed: int) -> Scored:
    """Scores of the codes (N, D) of the images `indices` (N,)."""
    factors = factors_of(indices)
    scores = disentanglement_scores(codes, factors, factor_sizes=FACTOR_SIZES, seed=seed)
    return Scored(scores, mutual_information(codes, factors, factor_sizes=FACTOR_SIZES))
