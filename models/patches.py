"""Features of patches: two stages of an encoder, averaged with their neighbours and joined."""

import torch
import torch.nn.functional as F
from torch import Tensor


def join_stages(fine: Tensor, coarse: Tensor) -> Tensor:
    """Join two stages of an encoder at the places of the finer one (Roth et al. 2022).

    Args:
        fine: shape (B, K, h, w).
        coarse: a later stage (B, L, h', w'), which is enlarged.

    Returns:
        Shape (B, K + L, h, w); each place is the mean of 3 x 3.
    """
    fine, coarse = (F.avg_pool2d(stage, 3, 1, 1) for stage in (fine, coarse))
    size = (fine.shape[2], fine.shape[3])
    enlarged = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    return torch.cat([fine, enlarged], dim=1)
