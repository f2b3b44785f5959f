"""Runs a graph as a stranger does, with ONNX Runtime's own settings, in a process of its own that may die.

Run as `python -m export.graphs.plain_run GRAPH.onnx`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def fails_plainly(path: Path) -> str | None:
    """How ONNX Runtime fails on the graph at its default level on the CPU, in one line; None where it runs."""
    # -P: a folder called `export` in the working directory must not be imported instead of this package.
    command = [sys.executable, "-P", "-m", "export.graphs.plain_run", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return f"ends the process with signal {-done.returncode}"
    if done.returncode > 0:
        return (done.stderr.strip().splitlines() or ["fails without a word"])[-1]
    return None


def _run(path: str) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tensor = session.get_inputs()[0]
    kinds: dict[str, Any] = {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32}
    session.run(None, {tensor.name: np.ones([1, *tensor.shape[1:]], kinds[tensor.type])})


if __name__ == "__main__":
    _run(sys.argv[1])
