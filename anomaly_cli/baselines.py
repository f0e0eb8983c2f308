"""Anomaly maps that need no attention, to compare attention with: all of one and the same VAE."""

import numpy as np
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity
from torch import Tensor

from anomaly_cli.config.names import CENTRE_PRIOR, SSIM
from models.vae import VAE

PRIOR_WIDTH = 1 / 4  # standard deviation of the Gaussian, in sides of the image


@torch.no_grad()
def baseline_map(source: str, vae: VAE, images: Tensor, latents: Tensor | None = None) -> Tensor:
    """The map of a baseline of the VAE, (B, H, W), for images (B, 3, H, W) in [0, 1].

    `reconstruction` is |x - x^|, mean over channels, the baseline of the paper. `ssim` is 1 - SSIM
    of x and x^ in Gaussian windows of 1.5 pixels (Wang et al. 2004; the residual of AE-SSIM,
    Bergmann et al. 2019), in [0, 2]. `centre_prior` is a Gaussian in the middle, the same for all
    images: what a map reaches by knowing where defects use to lie.

    x is what the network sees: the grey of the images, if it has one channel. Where the decoder
    draws smaller images than these, x is shrunk to their size and the map enlarged.

    Args:
        source: the name.
        vae: in eval mode.
        images: on the device of the VAE.
        latents: their posterior means (B, D), where they are known already.
    """
    if source == CENTRE_PRIOR:
        height, width = images.shape[2:]
        y, x = (torch.linspace(-0.5, 0.5, side, device=images.device) for side in (height, width))
        squares = y.square()[:, None] + x.square()
        return torch.exp(-squares / (2 * PRIOR_WIDTH**2)).expand(len(images), -1, -1)
    rebuilt = vae.reconstruct(images) if latents is None else vae.decode(latents)
    seen = vae.targets(images)
    is_ssim = source == SSIM
    error = _dissimilarity(seen, rebuilt) if is_ssim else (seen - rebuilt).abs().mean(dim=1)
    if error.shape[1:] == images.shape[2:]:
        return error
    size = (images.shape[2], images.shape[3])
    return F.interpolate(error[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _dissimilarity(seen: Tensor, rebuilt: Tensor) -> Tensor:
    """1 - SSIM, mean over channels: two times (B, C, H, W) -> (B, H, W)."""
    maps = []
    for x, y in zip(seen.float().cpu().numpy(), rebuilt.float().cpu().numpy(), strict=True):
        _mean, similarity = structural_similarity(  # type: ignore[no-untyped-call]
            x, y, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        maps.append(1 - similarity.mean(axis=0))
    return torch.from_numpy(np.stack(maps)).float().to(seen.device)
