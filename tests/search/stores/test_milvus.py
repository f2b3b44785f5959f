"""Milvus alone: collections of others. On a file of Milvus Lite, and part of `make milvus-conformance`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from protoclip.contract.errors import IndexBusyError, IndexFileError
from protoclip.search import create_index, open_index

FINGERPRINT = "0123456789abcdef"
pymilvus = pytest.importorskip("pymilvus", reason="the extra is not installed: pip install 'protoclip[milvus]'")
pytest.importorskip("milvus_lite", reason="not installed: pip install milvus-lite")


def test_milvus_collections_of_others_stay_as_they_are(tmp_path: Path) -> None:
    file = str(tmp_path / "engine.db")
    with create_index(f"milvus://{file}#ours", FINGERPRINT, 4, exact=True):
        _collections_of_others(file)


def _collections_of_others(file: str) -> None:
    client = pymilvus.MilvusClient(file)
    client.create_collection("theirs", dimension=4)
    client.insert("theirs", [{"id": 1, "vector": [1.0, 0.0, 0.0, 0.0]}])
    with pytest.raises(IndexFileError, match="this collection is no index of protoclip"):
        create_index(f"milvus://{file}#theirs", FINGERPRINT, 4, replace=True)
    with pytest.raises(IndexFileError, match="this collection is no index of protoclip"):
        open_index(f"milvus://{file}#theirs")
    assert [row["id"] for row in client.query("theirs", filter="id > 0")] == [1]
    client.close()


def test_milvus_indexes_are_replaced(tmp_path: Path) -> None:
    address = f"milvus://{tmp_path / 'engine.db'}#ours"
    with create_index(address, FINGERPRINT, 4, exact=True) as store:
        store.add(np.eye(4), list("abcd"))
    with create_index(address, FINGERPRINT, 4, exact=True, replace=True) as store:
        assert store.count() == 0


def test_a_file_of_milvus_is_free_when_its_last_index_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "engine.db"
    with create_index(f"milvus://{file}#a", FINGERPRINT, 4, exact=True) as store:
        store.add(np.eye(4), list("abcd"))
        create_index(f"milvus://{file}#b", FINGERPRINT, 4, exact=True).close()
        assert store.count() == 4
        code = f"from protoclip.search import open_index; print(open_index('milvus://{file}#a').count())"
        busy = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert busy.stderr.splitlines()[-1].endswith("can't be opened: another process has this file open")
        assert IndexBusyError.__name__ in busy.stderr
    free = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert free.stdout == "4\n", free.stderr
    with open_index(f"milvus://{file}#a") as store:
        assert store.search(np.eye(4)[2], 1)[0].id == "c"
