"""Values of each place freed of what they have in common there."""

from torch import Tensor


def decorrelate(deviation: Tensor, whitening: Tensor) -> Tensor:
    """u(p) = T(p) d(p) at every place p.

    A product of matrices for each place, of which the images are columns that lie side by side:
    einsum over the same tensors copies each matrix first, and takes 2 to 4 times as long.

    Args:
        deviation: d, shape (B, D, h, w).
        whitening: T, shape (h, w, D, D).

    Returns:
        u, shape (B, D, h, w).
    """
    columns = deviation.permute(2, 3, 1, 0).contiguous()  # (h, w, D, B)
    return (whitening @ columns).permute(3, 2, 0, 1)
