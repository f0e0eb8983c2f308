"""Results of `evaluate` -> JSON, CSV, Markdown, JUnit XML and HTML."""
