"""Every way to run a model on this machine, side by side."""
