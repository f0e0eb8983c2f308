"""One module per command; each has a `run(config)`."""
