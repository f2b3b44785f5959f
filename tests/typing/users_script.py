"""A user's script as `mypy --strict` sees it; `make check` checks it, and tests/test_users_script.py runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip import AsyncClient, BuildProgress, Classification, Client, Hit, Index, ItemError, ProtoclipError
from protoclip.client import InMemoryTransport, MemoryModel

DIM = 4
Where = Mapping[str, object]


def encode(item: str | bytes) -> NDArray[np.float32]:
    """A made-up model, so that this runs without a server."""
    rng = np.random.default_rng(len(item))
    return rng.standard_normal(DIM).astype(np.float32)


def transport() -> InMemoryTransport:
    return InMemoryTransport(MemoryModel(encode, encode, embedding_dim=DIM, name="shop", fingerprint="abcdef"))


def build(path: Path, client: Client, texts: list[str]) -> Index:
    def show(progress: BuildProgress) -> None:
        print(f"{progress.done} of {progress.total}, {progress.skipped} skipped")

    return Index.build(path, client, texts=texts, metadata={"0": {"price": 10}}, progress=show)


def best(client: Client, index: Index, query: str, where: Where | None = None) -> list[tuple[str, float]]:
    hits: list[Hit] = client.search(index, text=query, k=3, where=where)
    return [(hit.id, hit.score) for hit in hits]


def labels(client: Client, pictures: list[bytes]) -> Iterator[str]:
    answers: list[Classification | ItemError] = client.classify(pictures, ["cat", "dog"], errors="return", top_k=1)
    for answer in answers:
        yield answer.reason if isinstance(answer, ItemError) else answer.label


async def count(texts: list[str]) -> int:
    async with AsyncClient(transport=transport()) as client:
        vectors = await client.embed_texts(texts)
        return len(vectors)


def main(folder: Path) -> list[tuple[str, float]]:
    texts = ["a red shoe", "a hat", "two green coats"]
    with Client(transport=transport()) as client, build(folder / "shop.index", client, texts) as index:
        vectors = client.embed_texts(texts)
        index.upsert(vectors, ["0", "1", "2"], [{"price": price} for price in (10, 20, 30)])
        entry = index.get("0")
        assert entry is not None
        print(entry.metadata["price"], float(entry.vector @ vectors[0]), list(labels(client, [b"one", b"second"])))
        try:
            index.add(vectors[:1], ["0"])
        except ProtoclipError as error:
            print(error)
        print(asyncio.run(count(texts)), len(index), index.remove("2"), index.stats().entries)
        return best(client, index, texts[0], {"price": {"lt": 15}})


if __name__ == "__main__":
    print(main(Path.cwd()))
