"""What the client's commands do, and their output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import console
from protoclip.client import Client
from protoclip.client.wanted import Wanted
from protoclip.contract.errors import ConfigError, DataError, IndexFileError, ItemError
from protoclip.contract.files import atomic_path
from protoclip.contract.picture_folders import Skipped
from protoclip.search import Hit, Store
from protoclip.search.unknown_fields import unknown_fields

from .connection import as_records, new_progress, telling_what_is_slow
from .exactly import Exactly
from .inputs import Inputs, Question


@dataclass(frozen=True)
class Hits:
    """The hits, and the model that found them."""

    model: str
    hits: list[Hit]


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
    client: Client, index: Store, question: Question, weights: Mapping[str, float], wanted: Wanted, *, exact: bool
) -> Hits:
    """The nearest entries; where more are asked for than there are, all of them and a message.

    `exact`: every vector is compared.

    Raises:
        DataError: a text or the picture is bad.
        IndexFileError: as the index raises it, or it is empty.
    """
    if not len(index):
        raise IndexFileError(f"{index.path}: the index is empty: add vectors first")
    try:
        with telling_what_is_slow():
            hits = client.search(
                Exactly(index) if exact else index,
                text=_weighted("text", question.text, weights),
                image=question.image,
                like=_weighted("like", question.like, weights),
                minus=_weighted("minus", question.minus, weights),
                k=wanted.k,
                **wanted.options,
            )
    except ItemError as error:
        raise DataError(_told(question, error)) from error
    _tell_unknown_fields(index, hits, wanted)
    if wanted.k > len(index) == len(hits):
        console.print(f"the index holds {len(index)} entries: showing all of them instead of {wanted.k}")
    # An id alone asks no server, and then the index says which model it is.
    model = (client.model_with(index.fingerprint) or client.model).prefix if question.needs_model else index.model
    return Hits(model, hits)


def _tell_unknown_fields(index: Store, hits: Sequence[Hit], wanted: Wanted) -> None:
    """Says which fields no entry has, where that may be why there is no hit, or no group."""
    for name in unknown_fields(index, hits, wanted.where, wanted.group_by):
        console.print(
            Text.assemble(("warning:", "bold yellow"), f" no entry of {index.path} has a field {name!r}"),
        )


def _weighted(name: str, value: str | None, weights: Mapping[str, float]) -> dict[str, float] | None:
    if value is None and name in weights:
        raise ConfigError(f"--weight {name}={weights[name]:g}: there is no --{name}")
    return None if value is None else {value: weights.get(name, 1.0)}


def _told(question: Question, error: ItemError) -> str:
    if question.image is None:
        return f"--{'text' if question.text is not None else 'minus'}: {error.reason}"
    name = str(question.image) if isinstance(question.image, Path) else "--image"
    if question.text is None and question.minus is None:
        return f"{name}: {error.reason.removeprefix(f'{name}: ')}"
    return error.reason if error.reason.startswith(name) else f"--text, --minus or --image: {error.reason}"


def print_hits(found: Hits, wanted: Wanted, as_json: bool) -> None:
    """A table of hits, best first, with their ranks; or JSON. Where none is relevant it says so."""
    judged = wanted.min_relevance is not None
    nothing = judged and not found.hits
    if as_json:
        facts = {"model": found.model, "hits": [_record(hit) for hit in found.hits]}
        print_json({**facts, **({"nothing_matches": nothing} if judged else {})})
        return
    if nothing:
        Console(soft_wrap=True).print(
            "nothing matches: none of the nearest entries is what was asked for with a probability of "
            f"{wanted.min_relevance:g} or more",
            highlight=False,
        )
        return
    table = Table("", "score", *(["relevance"] if judged else []), "id", "metadata")
    for rank, hit in enumerate(found.hits, start=wanted.offset + 1):
        metadata = ", ".join(f"{name}: {value}" for name, value in hit.metadata.items())
        relevance = [] if hit.relevance is None else [f"{hit.relevance:.2f}"]
        table.add_row(str(rank), f"{hit.score:.4f}", *relevance, Text(hit.id, overflow="fold"), Text(metadata))
    Console().print(table)


def _record(hit: Hit) -> dict[str, Any]:
    """A hit as JSON, with its relevance where that was asked for."""
    return {name: value for name, value in asdict(hit).items() if name != "relevance" or value is not None}


def print_json(facts: dict[str, Any]) -> None:
    """One line on standard output."""
    typer.echo(json.dumps(facts, ensure_ascii=False))
