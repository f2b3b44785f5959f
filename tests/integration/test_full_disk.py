"""A disk that is full: one line, the old file or folder whole, and nothing half written beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from protoclip.contract.errors import ProtoclipError
from protoclip.contract.files import write_text
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE
from protoclip.prototypes.heads import Heads
from protoclip.runs.metrics import MetricsLog, read_metrics
from protoclip.search import Index
from protoclip.training.checkpoint import (
    Position,
    Snapshot,
    TrainState,
    last_checkpoint,
    random_states,
    save_checkpoint,
)
from serving.triton.repository import write_repository

FINGERPRINT, DIM = "0123456789abcdef", 16
FullDisk = Callable[[int], AbstractContextManager[None]]


def state_of(folder: Path) -> dict[str, str]:
    """Every file below, hidden ones too, by the hash of its bytes; folders by an empty one."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def one_line_and_unchanged(folder: Path, reason: str = "File too large") -> Iterator[None]:
    before = state_of(folder)
    with pytest.raises(ProtoclipError, match=rf"can't be written: .*({reason})") as caught:
        yield
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert state_of(folder) == before


def an_index(path: Path, num_entries: int) -> Index:
    index = Index.create(path, FINGERPRINT, DIM)
    vectors = np.random.default_rng(num_entries).standard_normal((num_entries, DIM))
    index.add(vectors, [str(row) for row in range(num_entries)], [{"text": 100 * "x"}] * num_entries)
    return index


@pytest.mark.parametrize(("num_entries", "num_bytes"), [(20, 100), (2000, 60_000), (20000, 3_000_000)])
def test_index(tmp_path: Path, full_disk: FullDisk, num_entries: int, num_bytes: int) -> None:
    an_index(tmp_path / "x.index", 3).close()
    before = state_of(tmp_path)
    with Index.open(tmp_path / "x.index") as index:
        vectors = np.random.default_rng(0).standard_normal((num_entries, DIM))
        with full_disk(num_bytes), pytest.raises(ProtoclipError, match=r"can't be written: ") as caught:
            index.add(vectors, [f"more {row}" for row in range(num_entries)], [{"text": 100 * "x"}] * num_entries)
        assert "\n" not in str(caught.value)
        assert sorted(entry.id for entry in index.iterate()) == ["0", "1", "2"]
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("num_bytes", [10, 60_000])
def test_a_new_index(tmp_path: Path, full_disk: FullDisk, num_bytes: int) -> None:
    with one_line_and_unchanged(tmp_path, "full|I/O error|File too large"), full_disk(num_bytes):
        Index.create(tmp_path / "x.index", FINGERPRINT, DIM)


@pytest.mark.parametrize("num_bytes", [10, 1000, 30_000])
def test_repository(tiny_artifact: Path, tmp_path: Path, full_disk: FullDisk, num_bytes: int) -> None:
    write_repository(tiny_artifact, tmp_path / "repository")
    with one_line_and_unchanged(tmp_path), full_disk(num_bytes):
        write_repository(tiny_artifact, tmp_path / "repository", max_batch_size=8)


@pytest.mark.parametrize("num_bytes", [10, 1000, 3000])
def test_checkpoint(tmp_path: Path, full_disk: FullDisk, num_bytes: int) -> None:
    module, heads = torch.nn.Linear(16, 16), Heads(16, hidden_dim=32, projection_dim=8)
    optimizer = torch.optim.AdamW(module.parameters())
    state = TrainState(module, heads, optimizer)
    # A run's own, of which each checkpoint takes a copy.
    write_text(tmp_path / OPEN_CLIP_CONFIG_FILE, "{}")
    save_checkpoint(tmp_path, Snapshot(Position(step=1), None, {}, random_states()), state, keep=2)
    with one_line_and_unchanged(tmp_path), full_disk(num_bytes):
        save_checkpoint(tmp_path, Snapshot(Position(step=2), None, {}, random_states()), state, keep=1)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "step_00000001"


def test_any_file(tmp_path: Path, full_disk: FullDisk) -> None:
    write_text(tmp_path / "a.json", "old")
    with one_line_and_unchanged(tmp_path), full_disk(10):
        write_text(tmp_path / "a.json", "new and longer than ten bytes")


def log_until_full(folder: Path) -> None:
    with MetricsLog(folder, 0) as log:
        for step in range(1000):
            log.write("step", step=step)


def test_metrics(tmp_path: Path, full_disk: FullDisk) -> None:
    reason = r"metrics.jsonl: can't be written: File too large: resume"
    with full_disk(1000), pytest.raises(ProtoclipError, match=reason):
        log_until_full(tmp_path)
    steps = [line["step"] for line in read_metrics(tmp_path)]
    assert steps == list(range(len(steps)))
    assert len(steps) > 10
