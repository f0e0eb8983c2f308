"""Data sets and weights from the network: where they are, how they come, how they are unpacked."""
