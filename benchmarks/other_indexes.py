"""Other approximate indexes over the same vectors: the least effort with a recall@10 of 0.99, and its rate.

hnswlib, and Milvus Lite by pymilvus, installed beside the rest. `n` vectors, `Q` queries, `D` embedding.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
EFFORTS = (16, 32, 64, 128, 256, 512, 1024, 2048)
M, EF_CONSTRUCTION = 32, 200
SINGLE = 30
CHUNK = 10_000


def hnswlib_facts(rows: Vectors, queries: Mapping[str, Vectors]) -> dict[str, Any]:
    """hnswlib over `rows` `[n, D]`, asked in each kind of `queries` `[Q, D]`."""
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=rows.shape[1])
    graph.init_index(len(rows), M=M, ef_construction=EF_CONSTRUCTION)
    began = time.perf_counter()
    graph.add_items(rows)
    found = {"build_s": time.perf_counter() - began}

    def ask(asked: Vectors, ef: int) -> NDArray[np.int64]:
        graph.set_ef(ef)
        labels: NDArray[np.int64] = graph.knn_query(asked, 10)[0].astype(np.int64)
        return labels

    return found | _by_effort("ef", rows, queries, ask)


def milvus_lite_facts(rows: Vectors, queries: Mapping[str, Vectors], folder: Path) -> dict[str, Any]:
    """The same of HNSW in Milvus Lite, which keeps its files in `folder`."""
    from pymilvus import DataType, MilvusClient

    path = folder / "beside.db"
    _remove(path)
    client = MilvusClient(str(path))
    schema = client.create_schema(auto_id=False)
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=rows.shape[1])
    graph = client.prepare_index_params()
    options = {"M": M, "efConstruction": EF_CONSTRUCTION}
    graph.add_index("vector", index_type="HNSW", metric_type="IP", params=options)
    began = time.perf_counter()
    client.create_collection("beside", schema=schema)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        client.insert("beside", [{"key": start + row, "vector": vector} for row, vector in enumerate(part)])
    client.flush("beside")
    client.create_index("beside", graph)
    client.load_collection("beside")
    found = {"build_s": time.perf_counter() - began}

    def ask(asked: Vectors, ef: int) -> NDArray[np.int64]:
        answers = client.search("beside", list(asked), limit=10, search_params={"params": {"ef": ef}})
        return np.array([[hit["key"] for hit in hits] for hits in answers], dtype=np.int64)

    found |= _by_effort("ef", rows, queries, ask)
    client.close()
    _remove(path)
    return found


def _by_effort(
    name: str,
    rows: Vectors,
    queries: Mapping[str, Vectors],
    ask: Callable[[Vectors, int], NDArray[np.int64]],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, asked in queries.items():
        true = _nearest(rows, asked)
        for effort in EFFORTS:
            batches = [asked[start : start + 64] for start in range(0, len(asked), 64)]
            answers = np.concatenate([ask(batch, effort) for batch in batches])
            pairs = zip(true, answers, strict=True)
            share = statistics.mean(len(np.intersect1d(*pair)) / len(pair[0]) for pair in pairs)
            if share >= 0.99:
                break
        times = []
        for row in range(SINGLE):
            began = time.perf_counter()
            ask(asked[row : row + 1], effort)
            times.append(time.perf_counter() - began)
        found |= {f"{kind}_{name}": effort, f"{kind}_recall_at_10": share}
        found[f"{kind}_single_ms"] = 1000 * statistics.median(times)
    return found


def _nearest(rows: Vectors, asked: Vectors) -> NDArray[np.int64]:
    import faiss

    found: NDArray[np.int64] = faiss.knn(asked, rows, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]
    return found


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
