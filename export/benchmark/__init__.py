"""Benchmark of every runtime and precision on this machine, side by side."""
