"""The tables and figures of the paper: what each needs, what it trains, what it shows."""
