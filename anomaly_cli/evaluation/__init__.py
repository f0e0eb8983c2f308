"""Evaluate anomaly maps on a test split and report their metrics."""
