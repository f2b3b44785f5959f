"""The processor's name."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

_CPU_FACTS = Path("/proc/cpuinfo")


def processor_name() -> str:
    """The model name from Linux, else what Python's `platform` reports."""
    if _CPU_FACTS.exists():
        for line in _model_lines(_CPU_FACTS.read_text(errors="replace")):
            return line
    return platform.processor() or platform.machine()


def _model_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            yield value.strip()
