"""Measurements as functions of arrays, and the runners that feed them."""
