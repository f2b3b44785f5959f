"""Writes an index of the first format, as versions up to 0.1 did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from protoclip.contract.files import sha256_file


def write_old_index(
    folder: Path,
    vectors: NDArray[np.float32],
    ids: Sequence[str],
    metadata: Sequence[Mapping[str, Any]],
    **facts: Any,
) -> None:
    """`vectors` `[n, D]` of unit norm, with a name and metadata each; `facts` go into its record."""
    folder.mkdir()
    index = faiss.index_factory(vectors.shape[1], "IDMap2,Flat", faiss.METRIC_INNER_PRODUCT)
    index.add_with_ids(vectors, np.arange(len(vectors), dtype=np.int64))
    faiss.write_index(index, str(folder / "vectors.faiss"))
    lines = [
        json.dumps({"id": name, "metadata": own}, ensure_ascii=False) + "\n"
        for name, own in zip(ids, metadata, strict=True)
    ]
    with open(folder / "metadata.jsonl", "w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
        stream.writelines(lines)
    record = {
        "schema_version": 1,
        "model": "tiny",
        "fingerprint": "0123456789abcdef",
        "dim": vectors.shape[1],
        "count": len(vectors),
        "faiss_type": "IDMap2,Flat",
        "vectors_sha256": sha256_file(folder / "vectors.faiss"),
        "metadata_sha256": sha256_file(folder / "metadata.jsonl"),
        **facts,
    }
    (folder / "index.json").write_text(json.dumps(record), encoding="utf-8")
