"""Writes made-up pictures through `write_corpus`, for processes that tests kill: KIND OUT N, and when to die."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip.client import ClassBank, Client, InMemoryTransport, MemoryModel
from protoclip.client.classification import Choice
from protoclip.contract.progress import Progress, silent
from protoclip.corpus.plan import Plan, items_digest
from protoclip.corpus.run import Work, Written, write_corpus
from protoclip.corpus.tables import answers_table, embeddings_table

DIM, PART_SIZE = 4, 5
LABELS = ("red", "green, blue", "none")


class MadeUp:
    """`count` pictures; every seventh is bad for the server, and the last two are known to be bad."""

    def __init__(self, count: int, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        return f"picture {row + self.first}"

    def item(self, row: int) -> bytes:
        assert self.reason(row) is None
        return str(row + self.first).encode()

    def reason(self, row: int) -> str | None:
        return "is no picture" if row >= self.count - 2 else None


def expected_vector(number: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(number).standard_normal(DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def is_bad(number: int, count: int) -> bool:
    return number % 7 == 3 or number >= count - 2


def make_client(delay_s: float = 0.0, fingerprint: str = "0123456789ab") -> Client:
    def embed(data: bytes) -> NDArray[np.float32]:
        time.sleep(delay_s)
        if int(data) % 7 == 3:
            raise ValueError("is damaged")
        return expected_vector(int(data))

    model = MemoryModel(embed, lambda text: np.ones(DIM), DIM, name="made_up", fingerprint=fingerprint)
    return Client(transport=InMemoryTransport(model), batch_size=3)


def make_work(kind: str, items: MadeUp, client: Client, part_size: int = PART_SIZE, **settings: int) -> Work:
    plan = Plan(
        contents="embeddings" if kind == "embeddings" else "classifications",
        model=client.model.prefix,
        fingerprint=client.model.fingerprint,
        num_items=len(items),
        items_sha256=items_digest(items),
        part_size=part_size,
        settings=settings,
    )
    if kind == "embeddings":
        return Work(items, plan, embeddings_table)
    bank = ClassBank(
        LABELS, ("{}",), np.eye(3, DIM, dtype=np.float32), client.model.prefix, client.model.fingerprint
    )
    return Work(items, plan, partial(answers_table, classes=bank, model=client.model, choice=Choice(top_k=2)))


def write(kind: str, out: Path, count: int, delay_s: float = 0.0) -> Written:
    with make_client(delay_s) as client:
        return write_work(make_work(kind, MadeUp(count), client), out, client)


def write_work(work: Work, out: Path, client: Client, progress: Progress = silent) -> Written:
    return write_corpus(work.plan, out, partial(work.write, client=client), progress)


def die_before(number: int, folder: Path) -> None:
    """SIGKILL before this process makes, renames or removes a file or folder below `folder` for the given time."""
    left = number

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            return
        # What is removed in a folder that is open has a name without it.
        if str(arguments[0]).startswith(str(folder)) or arguments[-1] not in (-1, None):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


if __name__ == "__main__":
    if len(sys.argv) > 4:
        die_before(int(sys.argv[4]), Path(sys.argv[2]).parent)
    write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), 0.002 if len(sys.argv) == 4 else 0.0)
