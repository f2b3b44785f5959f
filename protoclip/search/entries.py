"""What is stored with each vector: an id and metadata, a JSON object; and their bytes in the database."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from protoclip.contract.errors import ConfigError, IndexFileError

from .vectors import Array


@dataclass(frozen=True, eq=False)
class Entry:
    """An entry of an index.

    Attributes:
        id: its name.
        metadata: what was stored with it.
        vector: `[D]`, float32, unit norm.
        mapped: whether an adapter made the vector of that of another model (see `Index.migrate`).
    """

    id: str
    metadata: Mapping[str, Any]
    vector: Array
    mapped: bool = False


_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Label:
    """Id and metadata as the database holds them."""

    id: bytes
    metadata: str

    @property
    def checksum(self) -> int:
        """Of both."""
        return zlib.crc32(self.metadata.encode(), zlib.crc32(self.id))

    def decoded(self) -> dict[str, Any]:
        """The metadata."""
        # What was written has no blanks around it: `loads` looks for them.
        found: dict[str, Any] = _DECODER.raw_decode(self.metadata)[0]
        return found

    def check(self, checksum: int, place: object) -> None:
        """Raises IndexFileError where `checksum` is another one; `place` is the file."""
        if checksum != self.checksum:
            raise IndexFileError(
                f"{place}: entry {id_text(self.id)!r} is damaged or changed since it was written: build the "
                "index again"
            )


def make_labels(ids: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None, count: int) -> list[Label]:
    """Labels for `count` vectors.

    Raises:
        ConfigError: other numbers of ids or metadata, an id that is not a text or there twice, or metadata that
            JSON can't hold.
    """
    # A set has no order: its ids would come to any vectors.
    if isinstance(ids, str | Set) or len(ids) != count:
        raise ConfigError(f"{count} vectors need as many ids, in a list")
    if metadata is not None and len(metadata) != count:
        raise ConfigError(
            f"{count} vectors need as many metadata, not {len(metadata)}: use {{}} where there is none"
        )
    # In their order: of a column of pandas, `metadata[0]` is the one that has the label 0.
    rows = [{}] * count if metadata is None else metadata
    labels = [make_label(name, row) for name, row in zip(ids, rows, strict=True)]
    seen: set[bytes] = set()
    for label in labels:
        if label.id in seen:
            raise is_twice(label.id)
        seen.add(label.id)
    return labels


def id_list(ids: str | Iterable[str]) -> list[str]:
    """One id or several.

    Raises:
        ConfigError: neither.
    """
    if not isinstance(ids, Iterable):
        raise ConfigError(f"id {ids!r} is a {type(ids).__name__}: ids are texts")
    return [ids] if isinstance(ids, str) else list(ids)


def make_label(name: object, metadata: object) -> Label:
    """One label.

    Raises:
        ConfigError: as `make_labels`.
    """
    key = id_bytes(name)
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        raise ConfigError(f"metadata of {name!r} is no mapping from texts")
    try:
        return Label(key, _json(dict(metadata)))
    except RecursionError as error:
        raise ConfigError(f"metadata of {name!r} can't be written as JSON: it is nested too deep") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metadata of {name!r} can't be written as JSON: {error}") from error


def is_twice(name: bytes) -> ConfigError:
    """The error for an id that is taken."""
    return ConfigError(f"id {id_text(name)!r} is there twice: every entry needs its own")


def id_bytes(name: object) -> bytes:
    """An id may be a file name that isn't UTF-8: what stands for such a byte is kept.

    Raises:
        ConfigError: it is no text.
    """
    if not isinstance(name, str):
        raise ConfigError(f"id {name!r} is a {type(name).__name__}: ids are texts")
    return name.encode("utf-8", "surrogatepass")


def id_text(name: bytes) -> str:
    """The reverse of `id_bytes`."""
    return name.decode("utf-8", "surrogatepass")


def _json(metadata: Mapping[str, Any]) -> str:
    text = json.dumps(metadata, allow_nan=False, ensure_ascii=False)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(metadata, allow_nan=False)
    return text
