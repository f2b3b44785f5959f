"""Load on a server, and what its clients see of it: requests at a rate or by a number of clients, and their times.

Pure functions of seeds and numbers (`histogram`, `plan`, `tally`, `answers`, `served`) apart from what sends
requests (`run`).
"""

from __future__ import annotations
