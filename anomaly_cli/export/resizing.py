"""Resizing inside of a graph, whose sizes are known only when it runs: as `files.resize` does it.

An axis that shrinks is averaged by area, then the other is interpolated bilinearly. Sums are added
in the order of OpenCV, and images are rounded as it rounds them: an average that lies halfway
between two levels is frequent, and errors of the last digit decide about it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

_LEAST_SHARE = 1e-3  # of a pixel; OpenCV leaves smaller ones out of an area average
_FIXED_POINT = 2048  # units in which OpenCV counts the weights of bilinear interpolation of uint8


class _Steps(NamedTuple):
    """Pixels per place along both axes; 1 along an axis that does not shrink. Scalars, float64."""

    down: Tensor
    across: Tensor

    @property
    def are_whole(self) -> Tensor:
        """Whether both are whole numbers: OpenCV then adds pixels first, and divides the sum."""
        return (self.down == self.down.round()) & (self.across == self.across.round())


class _Neighbours(NamedTuple):
    """The two pixels between which each place of a bilinear resize lies."""

    low: Tensor  # (N,) int64
    high: Tensor  # (N,) int64
    share: Tensor  # (N,) float32, weight of `high`


def resize_images(images: Tensor, side: int) -> Tensor:
    """Resize images (B, H, W, 3) uint8 as `files.resize.resize_image` does.

    Returns:
        (B, 3, S, S) float32, whole levels from 0 to 255.
    """
    height, width = _count(images.shape[1]), _count(images.shape[2])
    steps = _Steps(_step(height, side), _step(width, side))

    means = _average(images, side, steps)  # (B, S, S, 3)
    # OpenCV rounds halves up where it averages 2 x 2 pixels, and to even numbers elsewhere.
    is_halved = (steps.down == 2) & (steps.across == 2)
    levels = torch.where(is_halved, torch.floor(means + 0.5), torch.round(means))

    def enlarge(levels: Tensor) -> Tensor:
        return _enlarge_levels(levels, height.clamp_max(side), width.clamp_max(side))

    is_enlarged = (height < side) | (width < side)
    enlarged: Tensor = torch.cond(is_enlarged, enlarge, torch.clone, (levels,))
    return enlarged.permute(0, 3, 1, 2)


def _enlarge_levels(levels: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Enlarge the first `height` rows and `width` columns of levels (B, S, S, 3) to all of them.

    The arithmetic is OpenCV's, in integers, which floats hold exactly here.

    Returns:
        (B, S, S, 3).
    """
    side = levels.shape[1]
    across, down = _neighbours(side, width, is_kept=False), _neighbours(side, height, is_kept=True)
    low, high = (torch.round(part * _FIXED_POINT) for part in (1 - across.share, across.share))
    columns = levels.permute(0, 3, 1, 2).contiguous()  # (B, 3, S, S)
    wide = columns.index_select(3, across.low) * low + columns.index_select(3, across.high) * high
    wide = torch.floor(wide / 16)
    low, high = (torch.round(part * _FIXED_POINT) for part in (1 - down.share, down.share))
    top = _floor_of_product(wide.index_select(2, down.low), low[:, None])
    bottom = _floor_of_product(wide.index_select(2, down.high), high[:, None])
    return torch.floor((top + bottom + 2) / 4).permute(0, 2, 3, 1).contiguous()


def _floor_of_product(values: Tensor, weights: Tensor) -> Tensor:
    """Compute floor(v w / 65536) for whole v up to 2^15 and whole w up to 2^11, exactly."""
    coarse = torch.floor(values / 32)  # v = 32 coarse + fine, so that products fit into a float32
    fine = values - 32 * coarse
    return torch.floor((coarse * weights + torch.floor(fine * weights / 32)) / 2048)


def fit_maps(maps: Tensor, height: int, width: int) -> Tensor:
    """Resize maps (B, S, S) to (B, H, W) as `files.resize.fit_map` does.

    The highest value stays.
    """
    side = maps.shape[1]
    lengths = _count(height), _count(width)
    seen = [length.clamp_max(side) for length in lengths]
    steps = _Steps(*(1 / (length / side) for length in seen))
    means = _average(maps[..., None], side, steps)[..., 0]
    resized = means
    for axis, size, length in ((2, width, seen[1]), (1, height, seen[0])):
        low, high, share = _neighbours(size, length, is_kept=False)
        share = share if axis == 2 else share[:, None]
        below, above = resized.index_select(axis, low), resized.index_select(axis, high)
        resized = below * (1 - share) + above * share
    values, places = maps.flatten(1).max(dim=1)
    row, column = places // side, places % side
    row = _scale_place(row, side, lengths[0])[:, None] == torch.arange(height)
    column = _scale_place(column, side, lengths[1])[:, None] == torch.arange(width)
    is_peak = row[:, :, None] & column[:, None, :]
    return torch.where(is_peak, values[:, None, None], resized)


def _scale_place(place: Tensor, side: int, length: Tensor) -> Tensor:
    """Find the pixel of `length` in which the middle of a pixel of S lies."""
    return torch.div((2 * place + 1) * length.long(), 2 * side, rounding_mode="floor")


def _average(values: Tensor, side: int, steps: _Steps) -> Tensor:
    """Average values (B, H, W, C) over areas: (B, S, S, C) float32.

    Along an axis that does not shrink, places beyond the last pixel repeat it.
    """
    ones = torch.ones((), dtype=torch.float64)
    factor = torch.where(steps.are_whole, 1 / (steps.down * steps.across).float(), ones.float())
    sums = _sum_axis(values, 2, side, steps.across, steps.are_whole)
    return _sum_axis(sums, 1, side, steps.down, steps.are_whole) * factor


def _sum_axis(values: Tensor, axis: int, side: int, step: Tensor, is_whole: Tensor) -> Tensor:
    """Add the pixels of each place along one axis, one after the other, by their shares.

    Args:
        values: shape (B, H, W, C).
        axis: 1 or 2.
        side: places along it.
        step: pixels per place.
        is_whole: whether each pixel counts 1; otherwise its share of the place.
    """
    last = (_count(values.shape[axis]) - 1).long()
    start = torch.arange(side).double() * step
    cell = torch.minimum(step, _count(values.shape[axis]) - start)
    first = torch.floor(start)
    # A place that begins within a pixel sees one more. An axis that does not shrink sees none: its
    # pixels are where the sum begins.
    taps = (torch.ceil(step) + (step != step.round())) * (step > 1)
    own = values.index_select(axis, torch.minimum(torch.arange(side), last)).float()
    none = own * (step == 1)
    shape = (side, 1) if axis == 2 else (side, 1, 1)

    def is_unfinished(tap: Tensor, _sums: Tensor) -> Tensor:
        return tap < taps

    def add(tap: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        pixel = first + tap
        share = torch.minimum(pixel + 1, start + step) - torch.maximum(pixel, start)
        share = torch.where(share > _LEAST_SHARE, share.clamp_max(1.0), 0.0)
        weight = torch.where(is_whole, share, share / cell).float().reshape(shape)
        chosen = values.index_select(axis, torch.minimum(pixel.long(), last))
        return tap + 1, sums + chosen.float() * weight

    start_of_loop = (torch.zeros((), dtype=torch.float64), none)
    sums: Tensor = while_loop(is_unfinished, add, start_of_loop)[1]  # type: ignore[no-untyped-call]
    return sums


def _step(length: Tensor, side: int) -> Tensor:
    """Compute the pixels per place, as OpenCV rounds it; 1 where there are fewer pixels."""
    return (1 / (side / length)).clamp_min(1.0)


def _neighbours(size: int, seen: Tensor, *, is_kept: bool) -> _Neighbours:
    """Find the neighbours of N places among the first `seen` pixels.

    Args:
        size: N.
        seen: number of pixels, scalar float64.
        is_kept: keep the shares beyond the first and last pixel, where both neighbours are the
            same, as OpenCV does for rows. Rounded weights then give other levels.
    """
    place = ((torch.arange(size).double() + 0.5) * (1 / (_count(size) / seen)) - 0.5).float()
    floor = torch.floor(place)
    share, low = place - floor, floor.long()
    last = (seen - 1).long()
    if not is_kept:
        share = torch.where((low < 0) | (low >= last), 0.0, share)
    first = torch.zeros_like(last)
    high = torch.minimum(torch.maximum(low + 1, first), last)
    return _Neighbours(torch.minimum(torch.maximum(low, first), last), high, share)


def _count(size: int) -> Tensor:
    """Turn a size that is known only when the graph runs into a scalar tensor, float64."""
    return torch.ones(size, dtype=torch.float64).sum()
