"""The processes that a launcher such as torchrun started for one command, and talk between them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from anomaly_cli.errors import DeviceError

if TYPE_CHECKING:
    from torch import Tensor

_SET_BY_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")
# Long, as some processes wait for others that compute; the launcher ends the team if one dies.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Team:
    """The place of this process among those of a launcher. Each call is made by all of them."""

    rank: int  # from 0; the first process writes and prints
    size: int
    is_restarted: bool  # whether an earlier attempt of the launcher has failed
    group: Any  # of these processes, for Python objects
    tensors: Any = None  # of these processes, for tensors on any device; None: of all processes

    def gather(self, value: Any) -> list[Any]:
        """Send a value to the first process, and wait for all.

        Returns:
            The values of all processes by rank, in the first process; empty in the others.
        """
        from torch import distributed  # noqa: PLC0415 - only under a launcher

        values = [None] * self.size if self.rank == 0 else None
        distributed.gather_object(value, values, group=self.group, group_dst=0)
        return values or []

    def exchange(self, value: Any) -> list[Any]:
        """Send a value to all processes.

        Returns:
            The values of all processes by rank, in all of them.
        """
        from torch import distributed  # noqa: PLC0415

        values = [None] * self.size
        distributed.all_gather_object(values, value, group=self.group)
        return values

    def add_up(self, tensor: "Tensor") -> None:
        """Replace a tensor by the sum of those of all processes, the same bits in each."""
        from torch import distributed  # noqa: PLC0415

        distributed.all_reduce(tensor, group=self.tensors)

    def tell(self, value: Any = None) -> Any:
        """Send a value of the first process to all others.

        Returns:
            That value, in all processes.
        """
        from torch import distributed  # noqa: PLC0415

        values = [value]
        distributed.broadcast_object_list(values, group=self.group, group_src=0)
        return values[0]

    def split(self, count: int) -> tuple[int, "Team"]:
        """Split into smaller teams: process K is in team K modulo `count`.

        Returns:
            The number of the own team, from 0, and that team.
        """
        from torch import distributed  # noqa: PLC0415

        own = self.rank % count
        for number in range(count):  # each process has to make all groups, in the same order
            ranks = list(range(number, self.size, count))
            group: Any = distributed.new_group(ranks, timeout=_PATIENCE, backend="gloo")
            tensors: Any = distributed.new_group(ranks, timeout=_PATIENCE)
            if number == own:
                place = ranks.index(self.rank)
                team = Team(place, len(ranks), self.is_restarted, group, tensors)
        return own, team


@contextmanager
def join_team(device: str) -> Iterator[Team | None]:
    """Join the other processes of the launcher; give None where there is no launcher.

    With the device "auto" or "cuda", each process of a machine gets a GPU of its own.

    Raises:
        DeviceError: the machine has fewer GPUs than processes.
    """
    if not all(name in os.environ for name in _SET_BY_LAUNCHERS):
        yield None
        return
    from torch import distributed  # noqa: PLC0415
    from torch.distributed.distributed_c10d import PrefixStore  # noqa: PLC0415
    from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415

    backend, restarts = _choose_backend(device), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store, rank, size = next(rendezvous("env://"))
    # Machines count the restarts of their own processes alone, so they agree on none.
    if os.environ.get("LOCAL_WORLD_SIZE") == str(size):
        # Else a restarted process may find the addresses of processes that have ended.
        store = PrefixStore(f"attempt {restarts}", store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        group: Any = distributed.new_group(timeout=_PATIENCE, backend="gloo")
        counts = [0] * size
        distributed.all_gather_object(counts, int(restarts), group=group)
        yield Team(rank, size, any(counts), group)
    finally:
        distributed.destroy_process_group()


def _choose_backend(device: str) -> str:
    """Choose gloo, and NCCL beside it where each process has a GPU of its own."""
    import torch  # noqa: PLC0415

    if device not in {"auto", "cuda"} or not torch.cuda.is_available():
        return "gloo"
    place, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place >= count:
        raise DeviceError(
            f"process {place + 1} of this machine has no GPU: {count} found; start fewer "
            f"processes, or name a --device for all"
        )
    torch.cuda.set_device(place)
    return "cpu:gloo,cuda:nccl"
