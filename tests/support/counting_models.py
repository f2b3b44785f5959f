"""Models in this process that count what they embed, fail when told to, and differ by their fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.contract.errors import ServerError

OLD, NEW = "0123456789abcdef", "fedcba9876543210"
DIMS = {OLD: 4, NEW: 6}


def vector(fingerprint: str, item: Any) -> NDArray[np.float32]:
    """What the model of this fingerprint gives for bytes or a text."""
    data = item.encode() if isinstance(item, str) else bytes(item)
    made = np.random.default_rng([*fingerprint.encode(), *data]).standard_normal(DIMS.get(fingerprint, 4))
    return (made / np.linalg.norm(made)).astype(np.float32)


class CountingModel:
    """Gives `vector`, or what `make` does, remembers what it was asked for, and calls `at` before each."""

    def __init__(
        self,
        fingerprint: str,
        at: Callable[[Any], None] = lambda item: None,
        make: Callable[[str, Any], NDArray[np.float32]] = vector,
    ) -> None:
        self.fingerprint, self.at, self.make = fingerprint, at, make
        self.seen: list[Any] = []

    def client(self, batch_size: int = 2) -> Client:
        dim = len(self.make(self.fingerprint, "x"))
        model = MemoryModel(self.embed, self.embed, dim, name="tiny", fingerprint=self.fingerprint)
        return Client(transport=InMemoryTransport(model), batch_size=batch_size, concurrency=1)

    def embed(self, item: Any) -> NDArray[np.float32]:
        self.at(item)
        if item == b"broken":
            raise ValueError("no picture")
        self.seen.append(item)
        return self.make(self.fingerprint, item)


def failing_at(wanted: Any, error: type[BaseException] = ServerError) -> Callable[[Any], None]:
    """For `at`: raises at this item."""

    def fail(item: Any) -> None:
        if item == wanted:
            raise error("the server is gone")

    return fail


def write_pictures(folder: Path, count: int = 10) -> None:
    """Files `0.png` and so on, each with bytes of its own, which are pictures to the models here."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(picture(number))


def picture(number: int) -> bytes:
    """The bytes of one of them."""
    return f"picture {number}".encode()
