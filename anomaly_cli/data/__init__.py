"""Datasets on disk, and the defects that are drawn into normal images."""
