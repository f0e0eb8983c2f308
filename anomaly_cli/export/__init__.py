"""Export of trained models to files that other runtimes read."""
