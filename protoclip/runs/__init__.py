"""Reading a run folder: configuration, metrics, prototypes."""
