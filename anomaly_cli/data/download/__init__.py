"""Download of data sets and weights: their sources, transfer, unpacking and installation."""
