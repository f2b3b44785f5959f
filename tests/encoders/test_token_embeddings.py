from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from protoclip.config.load import build_config
from protoclip.contract.errors import ConfigError, DataError, ProtoclipError
from protoclip.contract.text import Tokenizer
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import create_module
from protoclip.encoders.token_embeddings import (
    WordVectors,
    move_unseen_tokens,
    read_word_vectors,
    set_token_embeddings,
)
from protoclip.encoders.tokenizer_lookup import tokenizer_for
from protoclip.training.train import train

WORDS = ["red", "green", "blue", "yellow", "square", "disc", "bar", "panda", "owl"]


def write(path: Path, words: list[str], features: Any) -> Path:
    parquet.write_table(pa.table({"word": words, "feature": features}), path)
    return path


def drawn(num_words: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_words, width)).astype(np.float32)


def token(model: str, word: str) -> int:
    """The id of a word that is one token, by the tokenizer itself."""
    ids = Tokenizer(*tokenizer_for(model)).encode([word])[0].tolist()
    assert ids[2:4] == [ids[2], 0], f"{word} is several tokens"
    return ids[1]


def test_words_begin_at_their_vectors_and_nothing_else_changes(tiny_model: str, tmp_path: Path) -> None:
    vectors = drawn(len(WORDS) + 2, 12)
    vectors[1] = 0
    words = [*WORDS, "extraordinarilyunknownword", "disc jockey"]
    path = write(tmp_path / "words.parquet", words, vectors.tolist())
    module = create_module(tiny_model)
    before = module.token_embedding.weight.detach().clone()
    found = read_word_vectors(module, tokenizer_for(tiny_model)[0], path, norm=0.5)
    set_token_embeddings(module, found)
    after = module.token_embedding.weight.detach()
    expected = {token(tiny_model, word): vectors[row] for row, word in enumerate(WORDS) if word != "green"}
    assert set(found.ids.tolist()) == set(expected)
    for number, vector in expected.items():
        np.testing.assert_allclose(after[number, :12], 0.5 * vector / np.linalg.norm(vector), rtol=1e-5)
    assert torch.equal(after[:, 12:], before[:, 12:])
    changed = (after != before).any(dim=1).nonzero().squeeze(1).tolist()
    assert set(changed) == set(expected)


def test_bytes_are_read_as_whole_numbers(tiny_model: str, tmp_path: Path) -> None:
    rows = np.array([[127, -127, 0, 1], [3, 4, 0, 0]], dtype=np.int8)
    path = write(tmp_path / "w.parquet", ["red", "owl"], pa.array([r.tobytes() for r in rows], pa.binary(4)))
    found = read_word_vectors(create_module(tiny_model), tokenizer_for(tiny_model)[0], path, norm=5.0)
    np.testing.assert_allclose(found.vectors[1], [3, 4, 0, 0], rtol=1e-6)


def test_unseen_words_follow_a_linear_way(tiny_model: str) -> None:
    """All seen words were turned by the same matrix: the unseen ones are turned by it too."""
    module, width = create_module(tiny_model), 8
    ids = torch.arange(100, 700)
    start = torch.nn.functional.normalize(
        torch.randn(600, width, generator=torch.Generator().manual_seed(0)), dim=1
    )
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(1)))[0]
    weight = module.token_embedding.weight.data
    weight[ids, :width] = torch.cat([start[:500] @ turn, start[500:]])
    others = weight[:100].clone()
    move_unseen_tokens(module, WordVectors(ids, start), trained=torch.arange(0, 600))
    torch.testing.assert_close(weight[600:700, :width], start[500:] @ turn, atol=0.05, rtol=0)
    torch.testing.assert_close(weight[100:600, :width], start[:500] @ turn)
    assert torch.equal(weight[:100], others)


def test_without_a_trained_word_nothing_moves(tiny_model: str) -> None:
    module = create_module(tiny_model)
    before = module.token_embedding.weight.detach().clone()
    move_unseen_tokens(module, WordVectors(torch.tensor([5, 6]), torch.eye(2)), trained=torch.tensor([1]))
    assert torch.equal(module.token_embedding.weight, before)


def test_a_run_begins_there_and_carries_its_other_words_along(
    shapes_config: dict[str, Any], tiny_model: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "words.parquet", WORDS, drawn(len(WORDS), 16).tolist())
    shapes_config["model"] |= {"word_vectors": str(path), "word_norm": 2.0}
    run = train(build_config(shapes_config, "test"), tmp_path / "run", quiet=True)
    weight = load_clip(run).module.token_embedding.weight
    start = {word: 2 * vector / np.linalg.norm(vector) for word, vector in zip(WORDS, drawn(9, 16), strict=True)}
    away = {word: np.abs(weight[token(tiny_model, word)].numpy() - start[word]).max() for word in WORDS}
    assert all(0 < distance < 0.5 for distance in away.values()), away


@pytest.mark.parametrize(
    ("words", "features", "error", "message"),
    [
        (["red"], [[1.0] * 17], ConfigError, "17 dimensions, but the text tower is 16 wide"),
        (["red"], [[float("nan"), 1.0]], DataError, "without NaN"),
        (["red", "owl"], [[1.0], [1.0, 2.0]], DataError, "can't be read"),
        (["notasingletokenword"], [[1.0]], DataError, "none of its words is a token"),
        (["red"], [[0.0, 0.0]], DataError, "none of its words is a token"),
    ],
)
def test_misfits_are_named(
    words: list[str], features: Any, error: type[ProtoclipError], message: str, tiny_model: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "words.parquet", words, features)
    with pytest.raises(error, match=message) as found:
        read_word_vectors(create_module(tiny_model), tokenizer_for(tiny_model)[0], path, norm=1.0)
    assert "model.word_vectors" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_missing_or_other_file_is_named(tiny_model: str, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "columns.parquet")
    for name, message in [("none", "no such file"), ("text", "can't be read"), ("columns", "can't be read")]:
        with pytest.raises(DataError, match=message):
            read_word_vectors(
                create_module(tiny_model), tokenizer_for(tiny_model)[0], tmp_path / f"{name}.parquet", 1.0
            )
