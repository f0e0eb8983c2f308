"""Six disentanglement scores: does each latent of a model represent one factor?"""

from anomaly_cli.disentangle.metrics.information import mutual_information
from anomaly_cli.disentangle.metrics.scores import DisentanglementScores, disentanglement_scores
from anomaly_cli.disentangle.metrics.table import active_latents

__all__ = [
    "DisentanglementScores",
    "active_latents",
    "disentanglement_scores",
    "mutual_information",
]
