"""Training: from normal images to a calibrated model."""
