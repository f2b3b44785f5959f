"""A run's configuration: the schema, the presets, and reading both."""
