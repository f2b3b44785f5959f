"""Tokens of the data: in memory where it is small, and else from a folder that is written once and then mapped.

The folder's name is a hash of all texts and of the tokenizer, so what is found there is what would be made.
`N` pairs, `M` texts, `U` distinct texts.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.text import Tokenizer
from protoclip.distributed import collectives

from .flat_texts import FlatTexts, digest_of, flat_texts
from .token_table import FACTS_FILE, Tokens, TokensOnDemand, TokenTable
from .tokenizing import CHUNK, Ragged, checked, encoded, frame, id_type, num_cores, token_table

logger = logging.getLogger(__name__)
T = TypeVar("T")
Progress = Callable[[Iterable[T], int], Iterable[T]]

MAX_IN_MEMORY = 100_000
_DAY_S = 24 * 3600


def load_tokens(
    texts: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    folder: Path,
    progress: Progress[Any],
    *,
    write: bool = True,
) -> Tokens:
    """The tokens of the texts [N] of each pair; all ranks call it.

    Up to `MAX_IN_MEMORY` texts are made by every rank. Of more, one rank of each host that does not find them in
    `folder` writes them there, and all map them. Where they can't be written, a warning says so, and the tokens of
    a batch are made when it is loaded.

    Args:
        progress: wraps an iterable and its length.
        write: False makes nothing of more texts, and writes nothing: for a run that is only planned.

    Raises:
        DataError: a text that the tokenizer can't take; names its row.
    """
    if not write and len(texts) > MAX_IN_MEMORY:
        return TokensOnDemand(texts, tokenizer)
    digest, num_texts = digest_of(texts)
    if num_texts <= MAX_IN_MEMORY:
        return token_table(flat_texts(texts), tokenizer)
    path = folder / f"tokens_{digest}_{tokenizer.fingerprint[:32]}"
    table = _mapped(path)
    if write and any(collectives.largest(int(table is None))):
        collectives.on_first_of_host(
            lambda: _try_to_write(path, flat_texts(texts), tokenizer, progress) if table is None else None
        )
        table = table or _mapped(path)
    return table or TokensOnDemand(texts, tokenizer)


def write_table(path: Path, flat: FlatTexts, tokenizer: Tokenizer, progress: Progress[Any]) -> None:
    """Writes what `TokenTable.mapped` reads; of several processes that do so at once, the first one's stays.

    Raises:
        DataError: a text that the tokenizer can't take; names its row.
        OSError: the disk is full, or the folder can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(path.parent)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        made = holder / path.name
        made.mkdir()
        _write_files(made, flat, tokenizer, progress)
        try:
            made.rename(path)
        except OSError:
            if _mapped(path) is None:
                shutil.rmtree(path, ignore_errors=True)
                made.rename(path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _mapped(path: Path) -> TokenTable | None:
    try:
        return TokenTable.mapped(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("%s: can't be read: %s: it is made again", path, error)
        return None


def _try_to_write(path: Path, flat: FlatTexts, tokenizer: Tokenizer, progress: Progress[Any]) -> None:
    try:
        write_table(path, flat, tokenizer, progress)
    except OSError as error:
        logger.warning(
            "%s: the tokens of %d texts can't be kept here: %s: each batch is tokenized when it is loaded, which "
            "takes more of the processor: name another folder by data.cache_dir",
            path.parent,
            len(flat.values),
            error.strerror or error,
        )


def _write_files(folder: Path, flat: FlatTexts, tokenizer: Tokenizer, progress: Progress[Any]) -> None:
    distinct, rows = flat.distinct()
    num_chunks = -(-len(distinct) // CHUNK)
    workers = num_cores() if 1 < num_cores() < num_chunks else 0
    chunks = progress(checked(encoded(distinct, tokenizer, workers), flat, tokenizer), num_chunks)
    lengths = _write_ids(folder / "ids", chunks, len(distinct), rows.nbytes + flat.first.nbytes)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    arrays: dict[str, tuple[str, int]] = {"ids": (np.dtype(id_type(tokenizer)).str, int(starts[-1]))}
    for name, values in (("starts", starts), ("rows", rows), ("first", flat.first)):
        _write(folder / name, [values])
        arrays[name] = (values.dtype.str, len(values))
    context_length, padding = frame(tokenizer)
    facts = {"context_length": context_length, "padding": padding, "arrays": arrays}
    _write(folder / FACTS_FILE, [np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)])


def _write_ids(path: Path, chunks: Iterable[Ragged], num_texts: int, other_bytes: int) -> NDArray[np.int64]:
    """Returns how many ids each text has; fails after the first chunk where the disk seems too small for all."""
    lengths: list[NDArray[np.int64]] = []

    def parts() -> Iterator[NDArray[Any]]:
        for ids, counts in chunks:
            needed = ids.nbytes * num_texts // len(counts) + other_bytes
            if not lengths and needed > shutil.disk_usage(path.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            lengths.append(counts)
            yield ids

    _write(path, parts())
    return np.concatenate(lengths)


def _write(path: Path, parts: Iterable[NDArray[Any]]) -> None:
    with open(path, "wb") as stream:
        for part in parts:
            stream.write(part.data)
        stream.flush()
        os.fsync(stream.fileno())


def _remove_left_behind(folder: Path) -> None:
    """Removes what processes left that were killed while they wrote."""
    for holder in folder.glob(".tokens_*"):
        with suppress(FileNotFoundError):
            if time.time() - holder.stat().st_mtime > _DAY_S:
                shutil.rmtree(holder, ignore_errors=True)
