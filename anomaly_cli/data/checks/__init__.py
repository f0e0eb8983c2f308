"""What is wrong with the files of a data set."""
