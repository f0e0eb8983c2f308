"""A trained model: its file, its anomaly maps and its thresholds."""
