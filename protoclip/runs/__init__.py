"""What a run left in its folder, and reading it: configuration, metrics, prototypes."""
