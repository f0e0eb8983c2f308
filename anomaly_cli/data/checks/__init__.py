"""Checks for errors in the files of a data set."""
