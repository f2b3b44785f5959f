"""Files of Milvus Lite: this process has a server for each, which holds its lock until it is ended."""

from __future__ import annotations

import os
import threading
from collections import Counter

from pymilvus import MilvusClient

_LOCK = threading.Lock()
_USERS: Counter[str] = Counter()


def open_file(path: str) -> MilvusClient:
    """A client of a file, whose server is started where there is none; errors as pymilvus."""
    # Under the lock: of two servers that are started at once one has the file, and the other fails.
    with _LOCK:
        client = MilvusClient(path)
        _USERS[_key(path)] += 1
        return client


def close_file(path: str, client: MilvusClient) -> None:
    """Closes it, and with the last one ends the server: others may open the file then."""
    with _LOCK:
        client.close()
        _USERS[_key(path)] -= 1
        if _USERS[_key(path)] > 0:
            return
        del _USERS[_key(path)]
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(path)


def _key(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - as Milvus Lite has it
