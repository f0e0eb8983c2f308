"""Data sets on disk, and synthetic defects for normal images."""
