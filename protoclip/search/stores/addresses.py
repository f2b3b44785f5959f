"""Addresses of stores beyond this machine: which engine, where, and which index in it.

postgresql://user@host:5432/database?index=shop        PostgreSQL with pgvector
postgresql:///database?host=/run/postgresql&index=shop    by a socket
milvus://host:19530/shop, milvus://host/database/shop  Milvus; ?tls=true over TLS
milvus:///folder/file.db#shop                          Milvus Lite, a file of this machine
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

from protoclip.contract.addresses import shown
from protoclip.contract.errors import ConfigError

_SCHEME = re.compile(r"(?P<scheme>postgres|postgresql|milvus):/", re.IGNORECASE)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SECRETS = {"password", "sslpassword", "token", "oauth_client_secret", "scram_client_key", "scram_server_key"}
POSTGRES_PORT, MILVUS_PORT = 5432, 19530


@dataclass(frozen=True)
class PostgresAddress:
    """A table of a database.

    Attributes:
        connection: a libpq URI, without password.
        index: the index's name.
        shown: the whole address.
    """

    connection: str
    index: str
    shown: str


@dataclass(frozen=True)
class MilvusAddress:
    """A collection of a server, or of a file.

    Attributes:
        uri: of the server, or the file's path.
        database: of the server; empty: the default one.
        index: the collection's name.
        shown: the whole address.
    """

    uri: str
    database: str
    index: str
    shown: str

    @property
    def is_file(self) -> bool:
        """Whether it is Milvus Lite."""
        return "://" not in self.uri


StoreAddress = PostgresAddress | MilvusAddress


def is_store_address(name: str | Path) -> bool:
    """Whether `name` is an address of an engine, and not a local index's folder."""
    return isinstance(name, str) and _SCHEME.match(name) is not None


def store_address(name: str) -> StoreAddress:
    """What an address says.

    Raises:
        ConfigError: it lacks the index's name, has a password, or can't be read. No message shows a secret.
    """
    try:
        parts = urlsplit(name)
        port = parts.port
        unquote(name, errors="strict").encode()
    except ValueError as error:
        # What is wrong with it may be a part of a password.
        raise ConfigError(
            "the index's address can't be read: check its host and port, and that all of it is UTF-8"
        ) from error
    if parts.password is not None or _SECRETS & {key.lower() for key, _ in parse_qsl(parts.query)}:
        where = "MILVUS_TOKEN" if parts.scheme == "milvus" else "PGPASSWORD or ~/.pgpass"
        raise ConfigError(
            f"the index's address holds a password, which others see on the command line: put it in {where}"
        )
    return _milvus(name, parts, port) if parts.scheme == "milvus" else _postgres(name, parts)


def _postgres(whole: str, parts: SplitResult) -> PostgresAddress:
    # As libpq reads them: a + is a plus, and no blank as in a form.
    options = [one.partition("=")[::2] for one in parts.query.split("&") if one]
    names = [unquote(value) for key, value in options if unquote(key) == "index"]
    if len(names) != 1 or parts.fragment:
        example = "postgresql://user@host/database?index=shop"
        raise ConfigError(f"{shown(whole)}: names no index: write {example}")
    rest = "&".join(f"{key}={_quoted(value)}" for key, value in options if unquote(key) != "index")
    connection = urlunsplit(("postgresql", parts.netloc, parts.path, rest, ""))
    # urlunsplit drops the two slashes of an empty host, and libpq wants them.
    if not connection.startswith("postgresql://"):
        connection = connection.replace("postgresql:", "postgresql://", 1)
    return PostgresAddress(connection, _index_name(names[0]), whole)


def _milvus(whole: str, parts: SplitResult, port: int | None) -> MilvusAddress:
    if not parts.netloc:
        path = unquote(parts.path)
        if not parts.fragment or not path.endswith(".db"):
            raise ConfigError(f"{shown(whole)}: a file of Milvus Lite is written milvus:///folder/file.db#shop")
        return MilvusAddress(path, "", _index_name(unquote(parts.fragment)), whole)
    names = [unquote(name) for name in parts.path.split("/")[1:]]
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if len(names) not in (1, 2) or not names[-1] or parts.fragment:
        raise ConfigError(f"{shown(whole)}: names no index: write milvus://host:{MILVUS_PORT}/shop")
    if (
        parts.username is not None
        or options.keys() - {"tls"}
        or options.get("tls", "true") not in ("true", "false")
    ):
        raise ConfigError(f"{shown(whole)}: takes ?tls=true and nothing else; who you are says MILVUS_TOKEN")
    scheme = "https" if options.get("tls") == "true" else "http"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    database = _index_name(names[0]) if len(names) == 2 else ""
    return MilvusAddress(f"{scheme}://{host}:{port or MILVUS_PORT}", database, _index_name(names[-1]), whole)


def _quoted(value: str) -> str:
    """A value of an option as libpq takes it, also where a blank stands in it."""
    return quote(unquote(value), safe="")


def _index_name(name: str) -> str:
    """The name, which becomes one of a table or collection."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{shown(name)!r} is no name of an index: up to 40 of a-z, 0-9 and _, the first of them a letter"
        )
    return name
