"""Names of scores and statistics for people: the same in every place."""

TITLES = {
    "factor_vae": "FactorVAE score",
    "factor_vae_kim800": "FactorVAE score, 800 votes",
    "beta_vae": "beta-VAE score",
    "mig": "MIG",
    "sap": "SAP",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
    "modularity": "modularity",
    "reconstruction": "reconstruction, nats",
    "kl": "KL, nats",
    "overlap": "overlap of attention",
    "shape_overlap": "overlap of maps scaled to sum 1",
    "empty_maps": "share of empty maps",
    "active_latents": "active latents",
}
