"""All statistics of normal images that a model file holds."""

from typing import NamedTuple

import torch

from anomaly_cli.detector.normal.appearance import NormalAppearance
from anomaly_cli.detector.normal.memory import PatchMemory
from models.statistics import AttentionStatistics


class NormalStatistics(NamedTuple):
    """Statistics of the normal images, for every kind of anomaly map."""

    attention: AttentionStatistics
    appearance: NormalAppearance | None = None  # None: the appearance map is not available
    memory: PatchMemory | None = None  # None: no memory map

    def to(self, device: torch.device) -> "NormalStatistics":
        """Copy every tensor to a device."""
        appearance = self.appearance
        if appearance is not None:
            appearance = type(appearance)(*(part.to(device) for part in appearance))
        memory = None if self.memory is None else self.memory.to(device)
        return NormalStatistics(self.attention.to(device), appearance, memory)
