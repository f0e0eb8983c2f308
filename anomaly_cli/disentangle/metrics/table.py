"""Codes of images with their factors, and random rows with a given value of a factor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.errors import DataError

MINIMUM_STD = 0.05  # of posterior means; the prior has 1


def active_latents(
    codes: NDArray[np.float32], *, minimum_std: float = MINIMUM_STD
) -> NDArray[np.bool_]:
    """Find the latents whose posterior mean depends on the image: (N, D) -> (D,).

    The rule of disentanglement_lib (Locatello et al. 2019): a standard deviation over the images of
    at least `minimum_std`. The others are collapsed: they equal the prior and hold no information.
    """
    return np.asarray(codes.std(axis=0, ddof=1, dtype=np.float64) >= minimum_std)


class FactorGroups(NamedTuple):
    """Rows of a table, sorted by the value of one factor."""

    order: NDArray[np.int64]  # (N,) rows
    starts: NDArray[np.int64]  # (values,) where each value begins in `order`
    sizes: NDArray[np.int64]  # (values,) rows with each value

    def draw(self, values: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw for each value one of the rows with that value, all equally likely; same shape."""
        place = (generator.random(values.shape) * self.sizes[values]).astype(np.int64)
        return np.asarray(self.order[self.starts[values] + place], np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentTable:
    """Posterior means of images, with the factors of the images.

    The images are all, a grid or a random part: if one factor is fixed, the others must vary.

    Raises:
        DataError: a code is not finite, or fewer than two images show some value of a factor.
        ValueError: shapes do not agree, there is no latent, a factor value is out of range, or no
            factor varies.
    """

    codes: NDArray[np.float32]  # (N, D)
    factors: NDArray[np.int64]  # (N, K)
    factor_sizes: Sequence[int]  # (K,)

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape[1] == 0:
            raise ValueError(f"expected codes of shape (N, D), got {self.codes.shape}")
        if self.factors.shape != (len(self.codes), len(self.factor_sizes)):
            raise ValueError(
                f"expected {len(self.factor_sizes)} factors for each of {len(self.codes)} codes, "
                f"got {self.factors.shape}"
            )
        if (self.factors < 0).any() or (self.factors >= np.array(self.factor_sizes)).any():
            raise ValueError(f"factor values must be below their sizes {tuple(self.factor_sizes)}")
        if not self.varying:
            raise ValueError("no factor has more than one value")
        if not np.isfinite(self.codes).all():
            raise DataError("codes hold NaN or infinity: the model has diverged")
        for factor in self.varying:
            fewest = int(self.groups[factor].sizes.argmin())
            if self.groups[factor].sizes[fewest] < 2:
                raise DataError(
                    f"fewer than two images have value {fewest} of factor {factor}; encode more"
                )

    @cached_property
    def varying(self) -> list[int]:
        """Factors that have more than one value; scores leave the others out."""
        return [factor for factor, size in enumerate(self.factor_sizes) if size > 1]

    @cached_property
    def groups(self) -> list[FactorGroups]:
        """Rows grouped by the values of each factor."""
        groups = []
        for column, size in zip(self.factors.T, self.factor_sizes, strict=True):
            sizes = np.bincount(column, minlength=size)
            order = np.argsort(column.astype(np.int16), kind="stable")  # 16 bits are radix sorted
            groups.append(FactorGroups(order, np.cumsum(sizes) - sizes, sizes))
        return groups

    @cached_property
    def is_active(self) -> NDArray[np.bool_]:
        """Latents that are not collapsed, shape (D,)."""
        return active_latents(self.codes)

    @cached_property
    def standardized(self) -> NDArray[np.float32]:
        """Codes of the A active latents with mean 0 and standard deviation 1, shape (N, A)."""
        active = self.codes[:, self.is_active].astype(np.float64)
        active -= active.mean(axis=0)
        active /= active.std(axis=0, ddof=1)
        return active.astype(np.float32)
