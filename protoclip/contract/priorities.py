"""Levels of a request's priority, as clients mark it and served models order their queues; 1 goes first."""

from __future__ import annotations

PRIORITY_LEVELS = 3

INTERACTIVE = 1
"""A request that somebody waits for."""
UNMARKED = 2
"""What other clients send."""
BULK = 3
"""A request that is one of many."""
