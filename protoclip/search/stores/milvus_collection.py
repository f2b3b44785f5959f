"""The one collection of an index in Milvus: its schema, calls, and Milvus' errors in one line. `D` embedding."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
from pymilvus import DataType, MilvusClient, MilvusException

from protoclip.contract.errors import (
    ConfigError,
    IndexBusyError,
    IndexFileError,
    ProtoclipError,
    StoreUnavailable,
)
from protoclip.search.vectors import Array

from .addresses import MilvusAddress
from .engine_facts import StoreFacts
from .milvus_files import close_file, open_file

FORMAT = 1
# Of a search or query; a property of the server that few change.
MAX_HITS = 16_384
TOKEN = "MILVUS_TOKEN"
_PROPERTY = "protoclip"
_TIMEOUT_S = 60.0
_MAX_BYTES = 65_535
_MAX_DIM = 32_768
_UNREACHABLE = ("fail connecting", "failed to connect", "unavailable", "deadline exceeded", "timeout", "timed out")
# What Milvus Lite says of a file whose lock another process holds; the reason stands in its log alone.
_NOT_OPENED = "Open local milvus failed"
# Every error is raised too, and told by whoever catches it.
for _name in ("pymilvus", "milvus_lite"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Collection:
    """One collection; may be shared between threads."""

    def __init__(self, address: MilvusAddress) -> None:
        """Connects.

        Raises:
            StoreUnavailable: the server can't be reached.
            IndexBusyError: another process has the file of Milvus Lite.
        """
        self._address, self._name = address, address.index
        self._client: MilvusClient | None = None
        with self._errors():
            if address.is_file:
                self._client = open_file(address.uri)
            else:
                token = os.environ.get(TOKEN, "")
                self._client = MilvusClient(address.uri, token=token, db_name=address.database, timeout=_TIMEOUT_S)

    def create(self, facts: StoreFacts, *, replace: bool) -> None:
        """Makes it, empty.

        Raises:
            IndexFileError: it is there, without `replace`, or one is there that is no index; ConfigError: more
                dimensions than Milvus takes.
        """
        if facts.dim > _MAX_DIM:
            raise ConfigError(f"dim={facts.dim}: Milvus takes up to {_MAX_DIM:,}")
        with self._errors():
            client = self._open()
            if client.has_collection(self._name):
                if not replace:
                    raise IndexFileError(f"{self._address.shown}: an index is here: open it, or give replace=True")
                # What is no index of ours is nobody's to drop.
                self.facts()
                client.drop_collection(self._name)
            indexes = client.prepare_index_params()
            kind: dict[str, Any] = {"index_type": "FLAT"}
            if not facts.exact:
                kind = {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}}
            indexes.add_index(field_name="vector", metric_type="IP", **kind)
            # Milvus Lite keeps no descriptions, and servers may know no such property.
            kept = {"properties": {_PROPERTY: _description(facts)}} if self._address.is_file else {}
            client.create_collection(
                self._name, schema=_schema(facts), index_params=indexes, consistency_level="Strong", **kept
            )

    def facts(self) -> StoreFacts:
        """What it says of itself.

        Raises:
            IndexFileError: there is none, it is none of ours, or it has a newer format.
        """
        with self._errors():
            client = self._open()
            if not client.has_collection(self._name):
                raise IndexFileError(f"{self._address.shown}: no index is here: make one, or copy one here")
            described = client.describe_collection(self._name)
        try:
            told = json.loads(described.get("properties", {}).get(_PROPERTY) or described["description"])
            written = told["protoclip"]
            facts = StoreFacts(told["model"], told["fingerprint"], told["dim"], told["artifact"], told["exact"])
        except (ValueError, KeyError, TypeError) as error:
            raise IndexFileError(f"{self._address.shown}: this collection is no index of protoclip") from error
        if written != FORMAT:
            raise IndexFileError(
                f"{self._address.shown}: its format is {written}, this version reads {FORMAT}: update protoclip"
            )
        return facts

    def load(self) -> None:
        """Has the server load it, where it hasn't."""
        with self._errors():
            self._open().load_collection(self._name)

    def flush(self) -> None:
        """Has the server seal what came last."""
        with self._errors():
            self._open().flush(self._name)

    def upsert(self, rows: list[dict[str, Any]]) -> None:
        """Writes rows in place of those of their digests."""
        with self._errors():
            self._open().upsert(self._name, rows)

    def delete(self, digests: list[str]) -> None:
        """Removes rows."""
        with self._errors():
            self._open().delete(self._name, ids=digests)

    def count(self, expression: str) -> int:
        """How many rows fit; an empty expression is all of them."""
        with self._errors():
            rows = self._open().query(
                self._name, filter=expression, output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(rows[0]["count(*)"])

    def query(self, expression: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """Rows that fit, at most `MAX_HITS`, in any order."""
        with self._errors():
            return list(
                self._open().query(
                    self._name,
                    filter=expression,
                    output_fields=list(fields),
                    limit=MAX_HITS,
                    consistency_level="Strong",
                )
            )

    def search(
        self, rows: Array, expression: str, number: int, fields: Sequence[str], parameters: dict[str, Any]
    ) -> list[list[dict[str, Any]]]:
        """The best `number` of each row, best first."""
        with self._errors():
            found = self._open().search(
                self._name,
                data=rows.tolist(),
                filter=expression,
                limit=number,
                output_fields=list(fields),
                search_params={"metric_type": "IP", "params": parameters},
                anns_field="vector",
                consistency_level="Strong",
            )
        return [list(one) for one in found]

    def close(self) -> None:
        """Ends the connection; may be called twice."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._address.is_file:
            close_file(self._address.uri, client)
        else:
            client.close()

    def _open(self) -> MilvusClient:
        if self._client is None:
            raise IndexFileError(f"{self._address.shown}: the index is closed: open it again")
        return self._client

    @contextmanager
    def _errors(self) -> Iterator[None]:
        place = self._address.shown
        try:
            yield
        except ProtoclipError:
            raise
        except (MilvusException, grpc.RpcError) as error:
            said = _line(error)
            if self._address.is_file and said == _NOT_OPENED:
                raise IndexBusyError(f"{place}: can't be opened: another process has this file open") from error
            # Some of its errors have their reason in a later line.
            if any(word in f"{said} {error}".lower() for word in _UNREACHABLE):
                raise StoreUnavailable(f"{place}: Milvus can't be reached: {said}") from error
            raise ProtoclipError(f"{place}: Milvus refused what was asked for: {said}") from error


def _description(facts: StoreFacts) -> str:
    told = {
        "protoclip": FORMAT,
        "model": facts.model,
        "fingerprint": facts.fingerprint,
        "dim": facts.dim,
        "artifact": facts.artifact,
        "exact": facts.exact,
    }
    return json.dumps(told)


def _schema(facts: StoreFacts) -> Any:
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=_description(facts))
    schema.add_field("digest", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("name", DataType.VARCHAR, max_length=_MAX_BYTES)
    schema.add_field("metadata", DataType.VARCHAR, max_length=_MAX_BYTES)
    schema.add_field("fields", DataType.JSON)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=facts.dim)
    return schema


def _line(error: Exception) -> str:
    told = error.details() if isinstance(error, grpc.RpcError) and hasattr(error, "details") else None
    said = told or getattr(error, "message", None) or str(error)
    return next(iter(str(said).splitlines()), type(error).__name__)
