"""Opening and making indexes by address, wherever they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.contract.install import install_command
from protoclip.search.index import Index
from protoclip.search.places import DATABASE_FILE, check_model_facts, is_old
from protoclip.search.store import Store

from .addresses import MilvusAddress, StoreAddress, is_store_address, store_address
from .engine import EngineStore
from .engine_facts import StoreFacts

if TYPE_CHECKING:
    from protoclip.client import Client

    from .milvus_store import MilvusStore
    from .postgres_store import PostgresStore


def open_index(address: str | Path, client: Client | None = None) -> Store:
    """Opens an index: `Index.open` for a folder, or that of an engine.

    Args:
        address: a folder, `postgresql://user@host/database?index=shop`, `milvus://host:19530/shop`, or
            `milvus:///folder/file.db#shop` for a file of Milvus Lite. Passwords are not written in it: PGPASSWORD
            or ~/.pgpass, and MILVUS_TOKEN.
        client: checks that its server has the model.

    Raises:
        ConfigError: an address that can't be read, a package that isn't installed, or the engine refuses the user.
        IndexFileError: no index is there, or as `Index.open`.
        StoreUnavailable: the engine can't be reached.
    """
    if not is_store_address(address):
        return Index.open(address, client)
    store = _open_engine(store_address(str(address)))
    if client is not None:
        try:
            store.check_served(client)
        except BaseException:
            store.close()
            raise
    return store


def create_index(
    address: str | Path,
    fingerprint: str,
    dim: int,
    *,
    model: str = "",
    artifact: str | None = None,
    exact: bool = False,
    replace: bool = False,
) -> Store:
    """Makes an empty index for vectors of the model with `fingerprint`, at an address as `open_index` takes it.

    Args:
        exact: of an engine: without an approximate structure; searches compare with every vector. The local index
            does so anyway.
        replace: in place of one that is there, all of whose entries are lost.

    Raises:
        ConfigError: no fingerprint, a `dim` below 1 or beyond what the engine takes. And as `open_index`.
        IndexFileError: an index is there, without `replace`, or something else of its name.
        StoreUnavailable: the engine can't be reached.
    """
    return _create(address, StoreFacts(model, fingerprint, dim, artifact, exact), replace=replace, settled=True)


def open_or_create(address: str | Path, like: Store, *, exact: bool) -> Store:
    """The index at an address, or an empty one for vectors as those of `like`, which gets HNSW by `settle`.

    Raises: as `open_index` and `create_index`.
    """
    if is_index_there(address):
        return open_index(address)
    facts = StoreFacts(like.model, like.fingerprint, like.dim, like.artifact, exact)
    try:
        return _create(address, facts, replace=False, settled=False)
    except IndexFileError:
        # Somebody else may have made it since.
        if not is_index_there(address):
            raise
        return open_index(address)


def is_index_there(address: str | Path) -> bool:
    """Whether an index is at an address; errors as `open_index`, but for one that isn't there."""
    if not is_store_address(address):
        return (Path(address) / DATABASE_FILE).exists() or is_old(Path(address))
    try:
        _open_engine(store_address(str(address))).close()
    except IndexFileError:
        return False
    return True


def _create(address: str | Path, facts: StoreFacts, *, replace: bool, settled: bool) -> Store:
    if not is_store_address(address):
        return Index.create(
            address, facts.fingerprint, facts.dim, model=facts.model, artifact=facts.artifact, replace=replace
        )
    check_model_facts(facts.fingerprint, facts.dim)
    found = store_address(str(address))
    if isinstance(found, MilvusAddress):
        return _milvus_store().create(found, facts, replace=replace)
    return _postgres_store().create(found, facts, replace=replace, settled=settled)


def _open_engine(address: StoreAddress) -> EngineStore:
    if isinstance(address, MilvusAddress):
        return _milvus_store().open(address)
    return _postgres_store().open(address)


def _postgres_store() -> type[PostgresStore]:
    try:
        from .postgres_store import PostgresStore
    except ImportError as error:
        raise _lacks("psycopg", "pgvector", error) from error
    return PostgresStore


def _milvus_store() -> type[MilvusStore]:
    try:
        from .milvus_store import MilvusStore
    except ImportError as error:
        raise _lacks("pymilvus", "milvus", error) from error
    return MilvusStore


def _lacks(package: str, extra: str, error: ImportError) -> ConfigError:
    return ConfigError(f"this index needs {package}, which can't be loaded ({error}): {install_command(extra)}")
