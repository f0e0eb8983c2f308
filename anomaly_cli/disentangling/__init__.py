"""Section 4 of the paper: latents that stand for one factor each, and look at different places."""
