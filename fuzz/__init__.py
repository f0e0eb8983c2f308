"""Fuzz targets: damaged files of every kind that the tool reads, which have to end in its errors.

    python -m fuzz [--seconds 10 | --count 20000] [--seed 0] [TARGET ...]
    python -m fuzz --file fuzz/failures/images-000123.png images

A target draws damaged files from small valid ones, and reads each as a command would. The rule:
no exception but those of `anomaly_cli.errors`, no call over `SECONDS_PER_CALL`, and a process that
stays below `MEGABYTES`. A file that breaks the rule stays in `FAILURES`, and its name is printed.

The mutations are our own. `hypothesis` builds values from their description, and these files are
described by their decoders alone: what finds faults is a valid file with a few bytes changed, and
its checksums repaired. File number N of a target depends on N and the seed alone, so a campaign of
20,000 files can be divided among processes, and goes on where a decoder killed one.
"""

from pathlib import Path

FAILURES = Path(__file__).parent / "failures"
SECONDS_PER_CALL = 10
MEGABYTES = 1500  # peak of the resident memory of a process
