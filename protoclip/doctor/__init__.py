"""What is installed, what works on this machine, and what to do about the rest. Loads no heavy package itself."""

from __future__ import annotations

from .checks import Check, Diagnosis, Group, State, diagnose
from .machine import machine_checks
from .packages import package_checks
from .probing import probed_checks

__all__ = [
    "Check",
    "Diagnosis",
    "Group",
    "State",
    "diagnose",
    "machine_checks",
    "package_checks",
    "probed_checks",
]
