"""Triton: its model repository, its process, and its readiness."""
