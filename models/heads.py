"""What lies between the last activation of an encoder and its posterior, as weights.

Where the encoder above an activation is one of these, its gradient needs no backward pass.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class PooledHead(NamedTuple):
    """v_i = sum_k W_ik mean_p A_k(p) + b_i: an affine function of the global average."""

    mu_weight: Tensor  # (D, K)
    mu_bias: Tensor  # (D,)

    def local_latents(self, features: Tensor) -> Tensor:
        """z_i(p) = sum_k W_ik A_k(p) + b_i, (B, D, h, w): their mean over positions is mu_i."""
        return F.conv2d(features, self.mu_weight[:, :, None, None], self.mu_bias)


class FlatHead(NamedTuple):
    """v_i = sum_kp W_ik(p) A_k(p) + b_i: an affine function of all positions."""

    mu_weight: Tensor  # (D, K, h, w)


class HiddenHead(NamedTuple):
    """v_i = sum_n W_in ReLU(sum_kp V_nk(p) A_k(p) + c_n) + b_i: one hidden layer between."""

    mu_weight: Tensor  # (D, N)
    hidden_weight: Tensor  # (N, K, h, w)
    hidden_bias: Tensor  # (N,)


ClosedHead = PooledHead | FlatHead | HiddenHead
