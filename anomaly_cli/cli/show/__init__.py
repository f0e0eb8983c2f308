"""Results of the commands as tables on stdout, one file for each kind of result."""
