"""Serving with Triton."""
