"""Guided attention: train the local latents to leave their normal range where a defect was drawn.

The definitions `exact` measure how far the local latents z_i(p) lie from those of normal images,

    M(p) = mean_i (z_i(p) - m_i)^2 / v_i,

with mean m and variance v of normal images, here of each position. A logistic of log(1 + M) has to
tell the drawn defects from the rest, so that what is trained is a distance as it is shown. The
paper trains attention as well, to disentangle latents (its section 4); this is the same idea turned
to localization.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CROSS_ENTROPY_WEIGHT = 5.0  # beside a Dice term of 1
MOMENTUM = 0.05  # of the moving averages, once 20 steps have been averaged plainly
SHRINKAGE = 0.5  # of the variances per position, added in terms of the one over all positions
# Of slope and offset: Adam moves a weight by the learning rate at most, and these have far to go.
_GAIN = 20.0
_SMALLEST_VARIANCE = 1e-3  # keeps the first steps finite
_DICE_SMOOTHING = 1.0  # pixels


class Guidance(nn.Module):
    """The moving statistics of normal local latents, and the logistic on top of the distance.

    Only training needs it: the maps of a trained model use statistics over all normal images.

    Args:
        latent_dim: number D of latents.
        grid: positions along a side of the local latents; those of smaller images may
            have fewer, by a whole number.
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
        """Take local latents (B, D, h, w) of normal images into the moving averages.

        Those of smaller images, on a coarser grid, count for all the positions that they cover.
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
        """A statistic (D, grid, grid) on the grid of the local latents."""
        return F.avg_pool2d(statistic, statistic.shape[-1] // local.shape[-1])

    def forward(self, local: Tensor, size: tuple[int, int]) -> Tensor:
        """Logit of a defect at each pixel, (B, *size), of local latents (B, D, h, w)."""
        mean, own = self._coarse(self.mean, local), self._coarse(self.variance, local)
        places = (1, 2)
        pooled = own.mean(places, keepdim=True) + mean.var(places, correction=0, keepdim=True)
        variance = own + SHRINKAGE * pooled + _SMALLEST_VARIANCE
        distance = ((local - mean).square() / variance).mean(1, keepdim=True)
        slope, offset = F.softplus(_GAIN * self.slope), _GAIN * self.offset
        logits = slope * torch.log1p(distance) + offset
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0]


def _repeat(statistic: Tensor, times: int) -> Tensor:
    """Each position (D, h, w) `times` by `times` over."""
    return statistic.repeat_interleave(times, 1).repeat_interleave(times, 2)


def guidance_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Misfit between logits (B, H, W) and masks (B, H, W) in [0, 1]: one value for the batch.

    Five times the binary cross-entropy per pixel in nats, plus 1 - Dice over the whole batch. Most
    pixels are normal: cross-entropy keeps these calm, and Dice keeps small defects from being
    ignored. Over the batch, because an image without a defect has no Dice.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks)
    found = torch.sigmoid(logits)
    overlap = 2 * (found * masks).sum() + _DICE_SMOOTHING
    dice = overlap / (found.sum() + masks.sum() + _DICE_SMOOTHING)
    return CROSS_ENTROPY_WEIGHT * cross_entropy + 1 - dice


class GradientBalance(nn.Module):
    """The weight of one loss at which another pulls `ratio` times as hard at an activation.

    Reconstruction and guidance are of different units and fall at different speeds, so that no
    fixed weight fits two categories. Their gradients in the activation that both start from are
    comparable. The weight is that of the first loss, which falls by orders of magnitude: were the
    second one scaled down with it, Adam, which remembers a thousand steps, would all but stop.

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
        """Take the two gradients of a step, the first one as `weight` has scaled it."""
        self.updates += 1
        share = (1.0 / self.updates).clamp_min(0.05)
        self.first.lerp_(weighted_first.norm().float() / self.weight, share)
        self.second.lerp_(second.norm().float(), share)
        self.weight.copy_(self.second / (self.ratio * self.first).clamp_min(1e-12))
