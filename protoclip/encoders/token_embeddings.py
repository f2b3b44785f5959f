"""Token embedding initialisation: embeddings of the text tower from word vectors of a language model.

A word that is in no training text is then close to words of similar meaning. `V` tokens in the vocabulary,
`W` dimensions of the tower, `F ≤ W` of the vectors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from protoclip.contract.errors import ConfigError, DataError

_RIDGE = 1.5


@dataclass(frozen=True)
class WordVectors:
    """Initial vectors of token embeddings.

    Attributes:
        ids: [n] int64, tokens.
        vectors: [n, F] float32, all of the same norm.
    """

    ids: Tensor
    vectors: Tensor


def read_word_vectors(module: nn.Module, tokenizer_json: str, path: Path, norm: float) -> WordVectors:
    """The vectors of those tokens that are a whole word of the file, scaled to the norm `norm`.

    A word that is not a single token is skipped, as is a zero vector.

    Args:
        path: Parquet with the columns `word` and `feature`, lists of F numbers or F bytes (int8).

    Raises:
        ConfigError: the text tower has no token embedding of its own, or fewer dimensions than the vectors.
        DataError: the file can't be read, holds NaN, or has no word of the vocabulary.
    """
    words, vectors = _read(path)
    width = _token_embedding(module).embedding_dim
    if vectors.shape[1] > width:
        raise ConfigError(
            f"model.word_vectors: {path}: vectors of {vectors.shape[1]} dimensions, "
            f"but the text tower is {width} wide"
        )
    tokens = _whole_word_tokens(tokenizer_json)
    lengths = np.linalg.norm(vectors, axis=1)
    rows = np.array([row for row, word in enumerate(words) if word in tokens and lengths[row] > 0], dtype=np.int64)
    if len(rows) == 0:
        raise DataError(f"model.word_vectors: {path}: none of its words is a token of the model's tokenizer")
    scaled = vectors[rows] * (norm / lengths[rows])[:, None]
    ids = torch.tensor([tokens[words[row]] for row in rows])
    return WordVectors(ids, torch.from_numpy(scaled.astype(np.float32)))


@torch.no_grad()
def set_token_embeddings(module: nn.Module, words: WordVectors) -> None:
    """Overwrites the embeddings with the vectors; dimensions beyond F stay as they are."""
    _token_embedding(module).weight[words.ids, : words.vectors.shape[1]] = words.vectors


@torch.no_grad()
def move_unseen_tokens(module: nn.Module, words: WordVectors, trained: Tensor) -> None:
    """Moves the embeddings of words that are in no training text as training moved those of similar words.

    A linear map from the initial vectors to the trained words' change is fitted by ridge regression, and the
    same map is applied to the other words. Without a trained word nothing is moved.

    Args:
        trained: ids of the tokens that are in a training text.
    """
    weight = _token_embedding(module).weight
    seen = torch.isin(words.ids, trained)
    if not seen.any():
        return
    width = words.vectors.shape[1]
    start = words.vectors.double()
    moved = weight[words.ids[seen], :width].cpu().double() - start[seen]
    ridge = _RIDGE * start[0].square().sum() * torch.eye(width, dtype=torch.float64)
    way = torch.linalg.solve(start[seen].T @ start[seen] + ridge, start[seen].T @ moved)
    weight[words.ids[~seen], :width] = (start[~seen] @ (way + torch.eye(width))).to(weight)


def _token_embedding(module: nn.Module) -> nn.Embedding:
    for place in (module, getattr(module, "text", None)):
        found = getattr(place, "token_embedding", None)
        if isinstance(found, nn.Embedding):
            return found
    raise ConfigError("model.word_vectors: this model's text tower has no token embedding: leave the setting out")


def _whole_word_tokens(tokenizer_json: str) -> dict[str, int]:
    """Words that are one token, as the usual tokenizers mark them: `word</w>`, `▁word`, `Ġword`."""
    model = json.loads(tokenizer_json)["model"]
    pairs = (
        model["vocab"].items()
        if isinstance(model["vocab"], dict)
        else zip((token for token, _ in model["vocab"]), range(len(model["vocab"])), strict=True)
    )
    marked = {token: number for token, number in pairs if token.endswith("</w>") or token[:1] in "▁Ġ"}
    return {token.removesuffix("</w>").lstrip("▁Ġ"): number for token, number in marked.items()}


def _read(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file():
        raise DataError(f"model.word_vectors: {path}: no such file")
    try:
        table = parquet.read_table(path, columns=["word", "feature"])
        features = table.column("feature").to_pylist()
        rows = [np.frombuffer(row, dtype=np.int8) if isinstance(row, bytes) else row for row in features]
        vectors = np.array(rows, dtype=np.float64)
        words = [str(word) for word in table.column("word").to_pylist()]
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"model.word_vectors: {path}: can't be read: {str(error).splitlines()[0]}") from error
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise DataError(f"model.word_vectors: {path}: its features must be lists of one length, without NaN")
    return words, vectors
