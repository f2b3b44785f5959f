"""What scripts on a served model share: `protoclip serve` as a process of its own, and pictures to send.

Not a script of its own: `served_comparison.py` and `served_soak.py` import it.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

START_S = 180.0
STOP_S = 20.0


@dataclass(frozen=True)
class Served:
    """`protoclip serve`: its process, which supervises the server, and its addresses."""

    process: subprocess.Popen[str]
    grpc_url: str
    http_url: str
    models: Mapping[str, str]
    """Names of the public models, by what they take."""


def start_serve(repository: Path, options: Sequence[str] = (), log: Path | None = None) -> Served:
    """Starts the command and waits until it has announced itself.

    Args:
        log: takes the events of supervision; None: this process's standard error.

    Raises:
        SystemExit: it ended instead.
    """
    command = [sys.executable, "-m", "protoclip", "serve", str(repository), "--json", *options]
    with open(log, "a", encoding="utf-8") if log else open(os.dup(2), "a", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"protoclip serve {repository} ended with exit code {process.wait()}")
    facts = json.loads(line)
    return Served(
        process,
        grpc_url=facts["grpc_url"],
        http_url=facts["http_url"],
        models={model["role"]: model["name"] for model in facts["models"]},
    )


def stop(process: subprocess.Popen[str]) -> int:
    """As an operator does, by SIGTERM; the exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return code


FREE_PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")


@contextmanager
def serving(repository: Path, options: Sequence[str] = FREE_PORTS) -> Iterator[Served]:
    """The command within the block."""
    served = start_serve(repository, options)
    try:
        yield served
    finally:
        stop(served.process)


def make_pictures(count: int, side: int) -> list[bytes]:
    """Square JPEGs of coarse colour fields with noise, all different; the same ones every time."""
    rng = np.random.default_rng(side)
    pictures = []
    for _ in range(count):
        fields = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        pixels = np.asarray(fields.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(pixels + rng.integers(-12, 13, pixels.shape), 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "JPEG", quality=85)
        pictures.append(stream.getvalue())
    return pictures
