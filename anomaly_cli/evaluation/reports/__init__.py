"""Reports of `evaluate` as JSON, CSV, Markdown, JUnit XML and HTML."""
