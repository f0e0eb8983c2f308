"""`python -m anomaly_cli` is `anomaly-cli`."""

from anomaly_cli.cli import main

main()
