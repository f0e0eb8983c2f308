"""Metrics of anomaly localization and detection, in numpy, from counts that can be merged."""
