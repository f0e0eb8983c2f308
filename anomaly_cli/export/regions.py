"""Anomalous regions inside of a graph: what `detector.masks` does with labels, done with maxima."""

import math

import numpy as np
import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from anomaly_cli.detector.threshold import Threshold

NOWHERE = -math.inf  # level of pixels outside of all regions


def anomaly_masks(maps: Tensor, threshold: Threshold) -> Tensor:
    """Mark the anomalous regions of maps (B, H, W), as `detector.masks.anomaly_mask` does.

    A region is anomalous if its highest pixel exceeds the threshold, so the highest pixel of each
    region takes the place of labels.
    """
    # NumPy compares maps of float32 with a Python number in float32.
    value = float(np.float32(threshold.value))
    is_above = maps > value
    if math.isnan(threshold.outline):
        return is_above
    is_called = is_above.flatten(1).any(dim=1)[:, None, None]
    halfway = (threshold.value + maps.flatten(1).amax(dim=1).double()) / 2
    ends = halfway.clamp_max(threshold.outline)[:, None, None]
    is_inside = (maps.double() > ends) & is_called
    peaks = region_peaks(torch.where(is_inside, maps, NOWHERE))
    mask = peaks > value
    if math.isnan(threshold.normal_level):
        return mask
    level = min(threshold.normal_level, threshold.value)
    mask = mask & (maps.double() > (peaks.double() + level) / 2)
    return region_peaks(torch.where(mask, maps, NOWHERE)) > value


def region_peaks(levels: Tensor) -> Tensor:
    """Give every pixel the highest level of its region, of neighbours in all 8 directions.

    A round takes the highest level of each row of a region, of the neighbours of each pixel, and of
    each column. Few rounds pass through a region that is not winding.

    Args:
        levels: shape (B, H, W), `NOWHERE` outside of regions.
    """
    is_inside = levels > NOWHERE
    rows, columns = _number_runs(is_inside), _number_runs(is_inside.mT)

    def is_unfinished(is_changed: Tensor, _levels: Tensor) -> Tensor:
        return is_changed.clone()  # a condition must not be its own input

    def sweep(_is_changed: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        spread = torch.where(is_inside, _run_peaks(before, rows), NOWHERE)
        spread = torch.where(is_inside, _neighbour_peaks(spread), NOWHERE)
        spread = torch.where(is_inside, _run_peaks(spread.mT, columns).mT, NOWHERE)
        return (spread != before).any(), spread

    start = (is_inside.any(), levels)
    peaks: Tensor = while_loop(is_unfinished, sweep, start)[1]  # type: ignore[no-untyped-call]
    return peaks


def _number_runs(is_inside: Tensor) -> Tensor:
    """Count the runs of pixels inside along the rows of (B, H, W): their numbers (B, H * W).

    A pixel outside has the number of the run after it, so what runs give it means nothing.
    """
    is_first = torch.arange(is_inside.shape[2]) == 0
    return (~is_inside | is_first).flatten(1).long().cumsum(dim=1)


def _run_peaks(levels: Tensor, runs: Tensor) -> Tensor:
    """Give every pixel of (B, H, W) the highest level of its run, by their numbers."""
    flat = levels.flatten(1)
    peaks = torch.full_like(flat, NOWHERE)
    peaks = torch.cat([peaks, peaks[:, :1]], dim=1)  # numbers begin at 1
    return peaks.scatter_reduce(1, runs, flat, "amax").gather(1, runs).reshape(levels.shape)


def _neighbour_peaks(levels: Tensor) -> Tensor:
    """Give every pixel of (B, H, W) the highest level of the 3 x 3 pixels around it."""
    wide = torch.nn.functional.pad(levels, (1, 1, 1, 1), value=NOWHERE)
    high = torch.maximum(torch.maximum(wide[:, :-2], wide[:, 1:-1]), wide[:, 2:])
    return torch.maximum(torch.maximum(high[..., :-2], high[..., 1:-1]), high[..., 2:])
