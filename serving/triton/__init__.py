"""Triton: its repository, its process, and whether it answers."""
