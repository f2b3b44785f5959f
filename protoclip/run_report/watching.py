"""A run's page, written again while the run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import Progress

from protoclip.contract.errors import ModelError
from protoclip.contract.files import write_text
from protoclip.encoders.model import WEIGHTS_FILE
from protoclip.evaluation.features import CPU
from protoclip.evaluation.scores import EVALUATION_FILE
from protoclip.runs.files import load_run_config
from protoclip.runs.metrics import METRICS_FILE
from protoclip.runs.places import find_weights

from .page import NUM_PICTURES, REPORT_FILE, Seen, check_overwritten, look, render_run

State = tuple[object, ...]


def watch_run(
    run: Path,
    out: Path | None = None,
    *,
    every_s: float = 30.0,
    num_pictures: int = NUM_PICTURES,
    device: torch.device = CPU,
    progress: Progress | None = None,
    written: Callable[[Path], None] = lambda path: None,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Writes the page whenever the run has logged something, until it is finished; returns where it lies.

    A browser loads it again every `every_s` seconds, until the last one. Pictures are embedded only where a
    checkpoint is new, and their embeddings are not kept.

    Args:
        run: folder that training fills.
        every_s: seconds between two looks at the run.
        written: called after each page.
        wait: sleeps.

    Raises:
        ConfigError: `out` holds a page of another kind.
        ModelError: `run` is no run folder.
        ProtoclipError: `out` can't be written.
    """
    path = out if out is not None else run / REPORT_FILE
    check_overwritten(path)
    config = load_run_config(run)
    before: State | None = None
    weights: State | None = None
    seen = Seen()
    while True:
        finished = (run / WEIGHTS_FILE).is_file()
        now_weights = _weights(run)
        now: State = (finished, _changed(run / METRICS_FILE), now_weights)
        if now != before:
            if now_weights != weights or before is None:
                seen = look(run, config, num_pictures, device=device, keep_features=False, progress=progress)
            refresh_s = None if finished else max(1, round(every_s))
            write_text(path, render_run(run, config, seen, refresh_s=refresh_s))
            written(path)
            before, weights = now, now_weights
        if finished:
            return path
        wait(every_s)


def _weights(run: Path) -> State:
    """What the page's pictures depend on: the weights, and the scores of `protoclip evaluate`."""
    evaluated = _changed(run / EVALUATION_FILE)
    try:
        found = find_weights(run)
    except ModelError:  # none yet
        return (evaluated,)
    return (evaluated, None if found is None else (str(found.folder), found.step))


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
