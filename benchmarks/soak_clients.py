"""The clients of `served_soak.py`: Client in threads and AsyncClient in tasks, each over both protocols."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from soak_inputs import Inputs, Plan, Planned

from protoclip import AsyncClient, Client, ItemError
from protoclip.client import Embeddings
from protoclip.contract.errors import ServerError

BUDGET_S = 60.0
"""Of a call: a start of the server has room in it, several times."""
FOLLOW_S = 5.0
"""How often a client asks which model its name stands for."""
EACH = 2
"""Clients of each kind and protocol."""


@dataclass
class Tally:
    """What came of the requests. Threads may share it.

    Attributes:
        waits_s: from when a request was due to its answer, by kind of request and kind of client.
        items, bad: items that were answered, and bad ones among them that were refused as they should be.
        wrong: answers that are not the right ones.
        failures: requests without an answer, by kind of request and message.
        models: answers by the fingerprint of their model.
    """

    waits_s: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    items: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, planned: Planned, client: str, wait_s: float, fingerprint: str, wrong: str | None) -> None:
        """Counts an answer, right or `wrong`."""
        with self._lock:
            self.waits_s[planned.kind, client].append(wait_s)
            self.items[planned.kind] += len(planned.numbers)
            self.bad[planned.kind] += sum(number < 0 for number in planned.numbers)
            self.models[fingerprint] += 1
            if wrong:
                self.wrong.append(f"{planned.kind}, {client}: {wrong}")

    def failed(self, planned: Planned, client: str, error: Exception) -> None:
        """Counts a request that got no answer within its budget."""
        with self._lock:
            self.failures[planned.kind, f"{client}: {type(error).__name__}: {error}"] += 1

    @property
    def requests(self) -> int:
        """With and without an answer."""
        return sum(map(len, self.waits_s.values())) + self.failures.total()


class Clients:
    """Takes requests from a plan until it ends, by clients of every kind; `run` returns after the last answer."""

    def __init__(self, urls: dict[str, str], name: str, inputs: Inputs) -> None:
        self._urls, self._name, self._inputs = urls, name, inputs
        self._errors: list[BaseException] = []

    def run(self, plan: Plan, tally: Tally) -> None:
        """Fills `tally`. Raises what went wrong in a client but for a ServerError, which is counted."""
        works: list[Callable[[], None]] = [lambda: asyncio.run(self._tasks(plan, tally))]
        for protocol in self._urls:
            works += [lambda protocol=protocol: self._thread(protocol, plan, tally)] * EACH  # type: ignore[misc]
        threads = [threading.Thread(target=self._kept, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _kept(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - is raised in the main thread
            self._errors.append(error)

    def _thread(self, protocol: str, plan: Plan, tally: Tally) -> None:
        who, followed_s = f"Client, {protocol}", time.monotonic()
        with Client(self._urls[protocol], model=self._name, timeout_s=BUDGET_S) as client:
            while not self._errors and (planned := plan.next()) is not None:
                due_s = planned.start_s or time.monotonic()
                time.sleep(max(0.0, due_s - time.monotonic()))
                try:
                    if time.monotonic() - followed_s > FOLLOW_S:
                        client.follow()
                        followed_s = time.monotonic()
                    answer = _ask(client, planned, self._inputs)
                except ServerError as error:
                    tally.failed(planned, who, error)
                    continue
                self._judge(planned, who, due_s, answer, client.model.fingerprint, tally)

    async def _tasks(self, plan: Plan, tally: Tally) -> None:
        await asyncio.gather(*(self._task(protocol, plan, tally) for protocol in self._urls for _ in range(EACH)))

    async def _task(self, protocol: str, plan: Plan, tally: Tally) -> None:
        who, followed_s = f"AsyncClient, {protocol}", time.monotonic()
        async with AsyncClient(self._urls[protocol], model=self._name, timeout_s=BUDGET_S) as client:
            while not self._errors and (planned := plan.next()) is not None:
                due_s = planned.start_s or time.monotonic()
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                try:
                    if time.monotonic() - followed_s > FOLLOW_S:
                        await client.follow()
                        followed_s = time.monotonic()
                    answer = await _ask_async(client, planned, self._inputs)
                    fingerprint = (await client.model).fingerprint
                except ServerError as error:
                    tally.failed(planned, who, error)
                    continue
                self._judge(planned, who, due_s, answer, fingerprint, tally)

    def _judge(
        self, planned: Planned, who: str, due_s: float, answer: Embeddings, fingerprint: str, tally: Tally
    ) -> None:
        wait_s = time.monotonic() - due_s
        tally.answered(planned, who, wait_s, fingerprint, self._inputs.mistake(planned, answer, fingerprint))


def _ask(client: Client, planned: Planned, inputs: Inputs) -> Embeddings:
    """A single item as one, many as a stream."""
    items = inputs.items(planned)
    if len(items) == 1:
        embed = client.embed_images if planned.role == "image" else client.embed_texts
        try:
            return _one(embed(items[0]))  # type: ignore[arg-type]
        except ItemError as error:
            return _none(error)
    stream = client.stream_images if planned.role == "image" else client.stream_texts
    parts = list(stream(items))  # type: ignore[arg-type]
    errors = tuple(error for part in parts for error in part.errors)
    return Embeddings(np.concatenate([part.vectors for part in parts]), errors)


async def _ask_async(client: AsyncClient, planned: Planned, inputs: Inputs) -> Embeddings:
    """A single item as one, many in one call."""
    items = inputs.items(planned)
    embed = client.embed_images if planned.role == "image" else client.embed_texts
    if len(items) > 1:
        return await embed(items, "return")  # type: ignore[no-any-return, call-overload, operator]
    try:
        return _one(await embed(items[0]))  # type: ignore[arg-type]
    except ItemError as error:
        return _none(error)


def _one(vector: np.ndarray) -> Embeddings:
    return Embeddings(vector[np.newaxis])


def _none(error: ItemError) -> Embeddings:
    return Embeddings(np.full((1, 1), np.nan, dtype=np.float32), (error,))
