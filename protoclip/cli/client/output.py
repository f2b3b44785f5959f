"""What the client's commands do, and their output."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import console
from protoclip.client import Client
from protoclip.contract.errors import DataError, IndexFileError, ItemError
from protoclip.contract.files import atomic_path
from protoclip.contract.picture_folders import Skipped
from protoclip.search import Hit, Index

from .connection import as_records, new_progress
from .inputs import Inputs


@dataclass(frozen=True)
class Embedded:
    """Vectors `[n, D]` of the good items, and the failed ones."""

    model: str
    fingerprint: str
    ids: list[str]
    vectors: NDArray[np.float32]
    failed: list[Skipped]


def embed_all(client: Client, inputs: Inputs, *, are_texts: bool) -> Embedded:
    """Embeds pictures, or else texts, with a progress bar."""
    names, failed, rows, good = inputs.names, list(inputs.failed), [], []
    stream = client.stream_texts(inputs.items) if are_texts else client.stream_images(inputs.opened())
    with new_progress() as progress:
        task = progress.add_task("embedding", total=len(names))
        for part in stream:
            bad = {error.position: error.reason for error in part.errors}
            failed += [Skipped(names[position], reason) for position, reason in bad.items()]
            for row, vector in enumerate(part.vectors, start=part.start):
                if row not in bad:
                    good.append(names[row])
                    rows.append(vector)
            progress.advance(task, len(part.vectors))
    vectors = np.stack(rows) if rows else np.zeros((0, client.model.embedding_dim), np.float32)
    return Embedded(client.model.prefix, client.model.fingerprint, good, vectors, failed)


def save_embedded(embedded: Embedded, path: Path) -> None:
    """Writes `ids` [n], `vectors` [n, D], `model` and `fingerprint` as .npz, readable without pickle."""
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            ids=np.array(embedded.ids, dtype=np.str_),
            vectors=embedded.vectors,
            model=np.array(embedded.model),
            fingerprint=np.array(embedded.fingerprint),
        )


def print_embedded(embedded: Embedded, out: Path | None, as_json: bool) -> None:
    """A table of ids and first components, or JSON; with `out`, only how many and where."""
    if as_json:
        facts: dict[str, Any] = {"model": embedded.model, "fingerprint": embedded.fingerprint}
        if out is None:
            pairs = zip(embedded.ids, embedded.vectors.tolist(), strict=True)
            facts["items"] = [{"id": name, "vector": vector} for name, vector in pairs]
        else:
            facts |= {"out": str(out), "count": len(embedded.ids)}
        print_json({**facts, "errors": as_records(embedded.failed)})
    elif out is not None:
        Console(soft_wrap=True).print(Text(f"{len(embedded.ids)} vectors of {embedded.vectors.shape[1]} in {out}"))
    elif embedded.ids:
        table = Table("item", f"vector of {embedded.vectors.shape[1]}")
        for name, vector in zip(embedded.ids, embedded.vectors, strict=True):
            table.add_row(Text(name), " ".join(f"{x:+.4f}" for x in vector[:4]) + " …")
        Console().print(table)


def search_one(
    client: Client, path: Path, role: Literal["text", "image"], query: Any, k: int
) -> tuple[str, list[Hit]]:
    """The prefix of the model that made the index, and the nearest entries.

    Where `k` is more than there are, all of them and a message.

    Raises:
        DataError: the text or the picture is bad.
        IndexFileError: as the index raises it.
    """
    with Index.open(path, client) as index:
        model = client.model_with(index.fingerprint) or client.model
        return model.prefix, _hits(client, index, role, query, k)


def _hits(client: Client, index: Index, role: Literal["text", "image"], query: Any, k: int) -> list[Hit]:
    if not len(index):
        raise IndexFileError(f"{index.path}: the index is empty: add vectors first")
    if k > len(index):
        console.print(f"the index holds {len(index)} entries: showing all of them instead of {k}")
    try:
        return client.search(index, **{role: query}, k=k)
    except ItemError as error:
        name = str(query) if isinstance(query, Path) else f"--{role}"
        raise DataError(f"{name}: {error.reason.removeprefix(f'{name}: ')}") from error


def print_hits(model: str, hits: Iterable[Hit], as_json: bool) -> None:
    """A table of hits, best first, or JSON."""
    if as_json:
        print_json({"model": model, "hits": [asdict(hit) for hit in hits]})
        return
    table = Table("", "score", "id", "metadata")
    for rank, hit in enumerate(hits, start=1):
        metadata = ", ".join(f"{name}: {value}" for name, value in hit.metadata.items())
        table.add_row(str(rank), f"{hit.score:.4f}", Text(hit.id, overflow="fold"), Text(metadata))
    Console().print(table)


def print_json(facts: dict[str, Any]) -> None:
    """One line on standard output."""
    typer.echo(json.dumps(facts, ensure_ascii=False))
