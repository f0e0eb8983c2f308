"""Metrics in numpy, from mergeable counts."""
