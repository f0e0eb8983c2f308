"""Statistical models of normal images: each is fitted and applied in one file."""
