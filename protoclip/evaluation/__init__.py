"""Measurements as functions of arrays, and the runners that call them."""
