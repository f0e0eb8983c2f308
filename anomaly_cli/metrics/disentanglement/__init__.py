"""How well each latent of a model stands for one factor: six scores from codes encoded once."""

from anomaly_cli.metrics.disentanglement.information import mutual_information
from anomaly_cli.metrics.disentanglement.scores import (
    DisentanglementScores,
    disentanglement_scores,
)
from anomaly_cli.metrics.disentanglement.table import active_latents

__all__ = [
    "DisentanglementScores",
    "active_latents",
    "disentanglement_scores",
    "mutual_information",
]
