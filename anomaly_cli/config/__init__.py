"""Settings of every command, as frozen dataclasses that refuse nonsense. Loads no torch."""
