"""What `served_soak.py` sends, and the right answers: those of the artifacts in this process, beforehand.

`N` items of a kind, `n` in a request, `D` embedding.
"""

from __future__ import annotations

import html
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from served_process import make_pictures

from protoclip import Client
from protoclip.client import Embeddings
from protoclip.load_test.inputs import broken_images

Role = Literal["image", "text"]
Array = NDArray[np.float32]
BOUND = 1e-5
"""Of a component: other batches are summed in another order."""
APART = 20 * BOUND
"""By how much any two right answers differ at least, or a wrong one could pass for another."""
COLOURS = ("red", "blue", "green", "yellow", "black", "white")
THINGS = ("apple", "car", "cat", "heart", "house", "fish", "book", "ball")
BULK_ITEMS = 24
BAD_SHARE = 0.02
SHARES: Mapping[tuple[Role, bool], float] = {
    ("image", False): 0.5,
    ("text", False): 0.3,
    ("image", True): 0.12,
    ("text", True): 0.08,
}
"""Of requests, by what they hold and whether they hold many."""


@dataclass(frozen=True)
class Planned:
    """One request: the numbers `[n]` of its items, a bad one as -1, -2, …; `start_s` None: at once."""

    start_s: float | None
    role: Role
    numbers: tuple[int, ...]

    @property
    def kind(self) -> str:
        """For the table."""
        what = "picture" if self.role == "image" else "text"
        return f"single {what}" if len(self.numbers) == 1 else f"{BULK_ITEMS} {what}s"


@dataclass(frozen=True)
class Right:
    """What a model answers: vectors `[N, D]` of the good items, reasons of the bad ones."""

    vectors: Mapping[Role, Array]
    reasons: Mapping[Role, tuple[str, ...]]


class Inputs:
    """Good and bad items, and the right answers by the model's fingerprint."""

    def __init__(self) -> None:
        texts = [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS]
        # Very long, which is allowed: only the beginning counts.
        texts.append("the tale of a cat and a dog " * 3000)
        nested = "&"
        for _ in range(12):
            nested = html.escape(nested)
        self.good: Mapping[Role, Sequence[bytes | str]] = {
            "image": [*make_pictures(40, 192), *make_pictures(8, 640)],
            "text": texts,
        }
        self.bad: Mapping[Role, Sequence[bytes | str]] = {
            "image": broken_images(),
            "text": [nested * 1000, "e" + "\u0301" * 20_000, "red\0shoes"],
        }
        self.right: dict[str, Right] = {}

    def learn(self, artifact: Path) -> str:
        """Computes what a model answers; returns its fingerprint."""
        vectors: dict[Role, Array] = {}
        reasons: dict[Role, tuple[str, ...]] = {}
        with Client(str(artifact), timeout_s=600) as client:
            for role in self.good:
                embed = client.embed_images if role == "image" else client.embed_texts
                vectors[role] = np.asarray(embed(list(self.good[role])))
                found = embed(list(self.bad[role]), "return")
                reasons[role] = tuple(error.reason for error in found.errors)
                if len(reasons[role]) != len(self.bad[role]):
                    raise SystemExit(f"{artifact}: takes a bad {role}: {found.errors}")
            fingerprint = client.model.fingerprint
        self.right[fingerprint] = Right(vectors, reasons)
        self._check_apart()
        return fingerprint

    def items(self, planned: Planned) -> list[bytes | str]:
        """`[n]`."""
        good, bad = self.good[planned.role], self.bad[planned.role]
        return [good[number] if number >= 0 else bad[-1 - number] for number in planned.numbers]

    def mistake(self, planned: Planned, answer: Embeddings, fingerprint: str) -> str | None:
        """What is wrong with an answer `[n, D]` of the model with that fingerprint; None: nothing is."""
        if fingerprint not in self.right:
            return f"an answer of the unknown model {fingerprint}"
        right = self.right[fingerprint]
        errors = {error.position: error.reason for error in answer.errors}
        if len(answer.vectors) != len(planned.numbers):
            return f"{len(planned.numbers)} items were sent, and {len(answer.vectors)} came back"
        for position, number in enumerate(planned.numbers):
            found = errors.get(position)
            wanted = None if number >= 0 else right.reasons[planned.role][-1 - number]
            if found != wanted:
                return f"item {position}: {found!r} instead of {wanted!r}"
            if number < 0:
                continue
            difference = float(np.abs(answer.vectors[position] - right.vectors[planned.role][number]).max())
            if not difference <= BOUND:
                return f"item {position}: a component differs by {difference:.2g}"
        return None

    def _check_apart(self) -> None:
        for role in self.good:
            rows = np.concatenate([right.vectors[role] for right in self.right.values()])
            for row in range(1, len(rows)):
                if (least := float(np.abs(rows[:row] - rows[row]).max(axis=1).min())) < APART:
                    raise SystemExit(f"two right answers for {role}s differ by {least:.1g} alone")


def draw_request(draw: random.Random, inputs: Inputs, start_s: float | None) -> Planned:
    """By `SHARES` and `BAD_SHARE`."""
    (role, bulk), *_ = draw.choices(list(SHARES), weights=list(SHARES.values()))
    numbers = [
        -1 - draw.randrange(len(inputs.bad[role]))
        if draw.random() < BAD_SHARE
        else draw.randrange(len(inputs.good[role]))
        for _ in range(BULK_ITEMS if bulk else 1)
    ]
    return Planned(start_s, role, tuple(numbers))


class Plan:
    """Requests in the order of their starts: at `rate` a second, independent of each other, or at once.

    Clients take them from here, so that it knows when the last one was given out. Threads may share it.
    """

    def __init__(self, inputs: Inputs, duration_s: float, rate: float | None, seed: int) -> None:
        self._inputs, self._rate = inputs, rate
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._began_s = self._next_s = time.monotonic()
        self._end_s = self._began_s + duration_s
        self.given = 0

    @property
    def given_s(self) -> float:
        """When the last one that was given out is due, in seconds from the beginning."""
        return self._next_s - self._began_s

    def next(self) -> Planned | None:
        """None once the time is over; starts are by `time.monotonic`."""
        with self._lock:
            if self._rate is None:
                start_s, over = None, time.monotonic() >= self._end_s
            else:
                self._next_s += self._draw.expovariate(self._rate)
                start_s, over = self._next_s, self._next_s >= self._end_s
            if over:
                return None
            self.given += 1
            return draw_request(self._draw, self._inputs, start_s)
