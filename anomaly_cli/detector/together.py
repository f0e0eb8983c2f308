"""Training of one model by several processes: who works on it, and how computing is shared.

Like the process groups of PyTorch, the team is a property of the process, so that functions which
compute on batches need not pass it on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from anomaly_cli.detector.team import Team

Batch = TypeVar("Batch")
Result = TypeVar("Result")

_team: Team | None = None


def current_team() -> Team | None:
    """Get the processes that train the model of this process; None: it is alone."""
    return _team


def is_first() -> bool:
    """Check whether this process writes the files of its model."""
    return _team is None or _team.rank == 0


@contextmanager
def train_together(team: Team) -> Iterator[None]:
    """Train a model with the other processes of a team; a team of one is as none."""
    global _team  # noqa: PLW0603 - see the module
    before, _team = _team, team if team.size > 1 else None
    try:
        yield
    finally:
        _team = before


def decide(choose: Callable[[], Result]) -> Result:
    """Let the first process choose for all."""
    if _team is None:
        return choose()
    result: Result = _team.tell(choose() if _team.rank == 0 else None)
    return result


def in_shares(compute: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
    """Compute a result of each batch, each in one process, and give all to all in order.

    Results are those of one process, because each is of a whole batch.

    Args:
        compute: gives tensors on the CPU, or what can be pickled.
        batches: the same in all processes.
    """
    if _team is None:
        yield from map(compute, batches)
        return
    rest = iter(batches)
    while of_all := list(islice(rest, _team.size)):  # few at once, to keep few in memory
        is_mine = _team.rank < len(of_all)
        results = _team.exchange(compute(of_all[_team.rank]) if is_mine else None)
        yield from results[: len(of_all)]


def cut_batch(batch: list[int]) -> list[int]:
    """Cut the own part out of the numbers of the images of a batch."""
    return batch if _team is None else batch[_team.rank :: _team.size]


def average(tensors: Sequence[Tensor], share: float | None = None) -> None:
    """Replace tensors by their means over all processes, in one message.

    Args:
        tensors: of the same shapes in all processes.
        share: weight of this process; those of all add up to 1. None: all have the same.
    """
    if _team is None or not tensors:
        return
    flat = torch.cat([tensor.detach().flatten().float() for tensor in tensors])
    flat *= 1 / _team.size if share is None else share
    _team.add_up(flat)
    start = 0
    for tensor in tensors:
        tensor.detach().copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
