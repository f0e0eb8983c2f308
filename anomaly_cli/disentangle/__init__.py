"""Disentanglement, section 4 of the paper: train VAEs on dSprites and score their latents."""
