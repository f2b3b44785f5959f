"""A run from its configuration to its folder: stages, steps, checkpoints, validation."""
