"""Settings of every command, as frozen dataclasses that check their values. Loads no torch."""
