"""The command line: one module a group of commands; each imports what it needs when it runs."""

from __future__ import annotations

from . import benchmark, client, demo, doctor, evaluate, export, index, serve, train, verify  # noqa: F401 - each registers its commands
from .app import app, main

__all__ = ["app", "main"]
