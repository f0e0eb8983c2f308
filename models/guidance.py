"""Guided attention: local latents are trained to leave their normal range at synthetic defects.

The `exact` definitions measure how far the local latents z_i(p) lie from those of normal images,

    M(p) = mean_i (z_i(p) - m_i)^2 / v_i,

with mean m and variance v of normal images, here of each position. A logistic function of
log(1 + M) is trained to separate synthetic defects from normal pixels, so the map that is shown is
itself trained. The paper also trains attention, to disentangle latents (section 4). Here the idea
serves localization.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CROSS_ENTROPY_WEIGHT = 5.0  # the Dice term has the weight 1
MOMENTUM = 0.05  # of the moving averages; the first 20 steps have equal weights
SHRINKAGE = 0.5  # share of the variance over all positions that is added to that of each position
# Factor of slope and offset: Adam moves a parameter by at most the learning rate in a step, and
# these two have far to go.
_GAIN = 20.0
_SMALLEST_VARIANCE = 1e-3  # keeps distances finite in the first steps
_DICE_SMOOTHING = 1.0  # pixels


class Guidance(nn.Module):
    """Moving statistics of normal local latents, and a logistic function of the distance from them.

    Only training needs it: the maps of a trained model use statistics over all normal images.

    Args:
        latent_dim: number D of latents.
        grid: positions along a side of the local latents. Smaller images may have fewer, by a
            whole factor.
    """

    mean: Tensor  # (D, grid, grid)
    variance: Tensor  # (D, grid, grid)
    updates: Tensor

    def __init__(self, latent_dim: int, grid: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(1.0 / _GAIN))  # positive by a softplus
        self.offset = nn.Parameter(torch.tensor(-3.0 / _GAIN))  # most pixels are normal
        self.register_buffer("mean", torch.zeros(latent_dim, grid, grid))
        self.register_buffer("variance", torch.ones(latent_dim, grid, grid))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def observe(self, local: Tensor) -> None:
        """Update the moving averages with local latents (B, D, h, w) of normal images.

        Latents of smaller images, on a coarser grid, count for all positions that they cover.
        """
        if len(local) == 0:
            return
        self.updates += 1
        share = (1.0 / self.updates).clamp_min(MOMENTUM)
        finer = self.mean.shape[-1] // local.shape[-1]
        self.mean.lerp_(_repeat(local.mean(dim=0), finer), share)
        squares = (local - self._coarse(self.mean, local)).square().mean(dim=0)
        self.variance.lerp_(_repeat(squares, finer), share)

    @staticmethod
    def _coarse(statistic: Tensor, local: Tensor) -> Tensor:
        """Average a statistic (D, grid, grid) over the cells of the grid of local latents."""
        return F.avg_pool2d(statistic, statistic.shape[-1] // local.shape[-1])

    def forward(self, local: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute the logit of a defect at each pixel, (B, *size), from latents (B, D, h, w)."""
        mean, own = self._coarse(self.mean, local), self._coarse(self.variance, local)
        places = (1, 2)
        pooled = own.mean(places, keepdim=True) + mean.var(places, correction=0, keepdim=True)
        variance = own + SHRINKAGE * pooled + _SMALLEST_VARIANCE
        distance = ((local - mean).square() / variance).mean(1, keepdim=True)
        slope, offset = F.softplus(_GAIN * self.slope), _GAIN * self.offset
        logits = slope * torch.log1p(distance) + offset
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0]


def _repeat(statistic: Tensor, times: int) -> Tensor:
    """Repeat each position of a statistic (D, h, w), `times` along both sides."""
    return statistic.repeat_interleave(times, 1).repeat_interleave(times, 2)


def guidance_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute the misfit between logits (B, H, W) and masks (B, H, W) in [0, 1].

    It is five times the binary cross-entropy per pixel in nats, plus 1 - Dice. Most pixels are
    normal: cross-entropy keeps their logits low, and Dice keeps small defects from being ignored.
    Dice is computed over the whole batch, because an image without a defect has none.

    Returns:
        One value for the batch.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks)
    found = torch.sigmoid(logits)
    overlap = 2 * (found * masks).sum() + _DICE_SMOOTHING
    dice = overlap / (found.sum() + masks.sum() + _DICE_SMOOTHING)
    return CROSS_ENTROPY_WEIGHT * cross_entropy + 1 - dice


class GradientBalance(nn.Module):
    """Weight of a first loss at which the gradient of a second one is `ratio` times as large.

    Reconstruction and guidance have different units and fall at different speeds, so no fixed
    weight fits two categories. Their gradients with respect to the activation that both depend on
    are comparable. The first loss is weighted, because it falls by orders of magnitude: if the
    second one were scaled down with it, Adam, which remembers a thousand steps, would almost stop.

    Args:
        ratio: norm of the second gradient over that of the weighted first, positive.
    """

    first: Tensor
    second: Tensor
    weight: Tensor
    updates: Tensor

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.register_buffer("first", torch.zeros(()))  # moving averages of the norms
        self.register_buffer("second", torch.zeros(()))
        self.register_buffer("weight", torch.ones(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def observe(self, weighted_first: Tensor, second: Tensor) -> None:
        """Update the weight with the two gradients of a step.

        Args:
            weighted_first: gradient of the first loss times `weight`.
            second: gradient of the second loss.
        """
        self.updates += 1
        share = (1.0 / self.updates).clamp_min(0.05)
        self.first.lerp_(weighted_first.norm().float() / self.weight, share)
        self.second.lerp_(second.norm().float(), share)
        self.weight.copy_(self.second / (self.ratio * self.first).clamp_min(1e-12))
