"""Tokens of all texts: in memory, mapped from the cache, or made batch by batch, always the same."""

from __future__ import annotations

import copy
import json
import pickle
import random
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from run_ranks import run_on_ranks

from protoclip.contract.errors import DataError
from protoclip.contract.text import TextSpec, Tokenizer
from protoclip.data import token_cache, tokenizing
from protoclip.data.cache_folder import cache_folder
from protoclip.data.flat_texts import digest_of, flat_texts
from protoclip.data.token_cache import load_tokens
from protoclip.data.token_table import Tokens, TokensOnDemand, TokenTable
from protoclip.sources.columns import TextColumn

BAD = "&#" + 5000 * "9" + ";"
WORDS = ["red", "the", "photo", "of", "small", "!", "0", "&amp;", "café", "中文", "🙂"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    from protoclip.encoders.tokenizer_lookup import tokenizer_for

    return Tokenizer(*tokenizer_for("ViT-B-32"))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten texts are many, and a chunk has seven."""
    monkeypatch.setattr(token_cache, "MAX_IN_MEMORY", 10)
    for module in (token_cache, tokenizing):
        monkeypatch.setattr(module, "CHUNK", 7)


def some_texts() -> tuple[tuple[str, ...], ...]:
    """Repeated ones, one that fills the context, one that ends in what pads, one with half a surrogate pair."""
    draw = random.Random(0)
    pool = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(60)]
    pool += [" ".join(WORDS * 20), "!", "! !", "\ud83d x", "A", "a"]
    return tuple(tuple(draw.choices(pool, k=draw.randint(1, 4))) for _ in range(80))


def everything(items: Iterable[Any], total: int) -> Iterable[Any]:
    return items


def by_loop(
    texts: tuple[tuple[str, ...], ...],
    tokenizer: Tokenizer,
    indices: NDArray[np.int64],
    draws: NDArray[np.float64],
) -> NDArray[np.int32]:
    chosen = [texts[i][int(draw * len(texts[i]))] for i, draw in zip(indices, draws, strict=True)]
    return np.concatenate([tokenizer.encode([text]) for text in chosen])


def in_memory(texts: tuple[tuple[str, ...], ...], tokenizer: Tokenizer, folder: Path) -> Tokens:
    return tokenizing.token_table(flat_texts(texts), tokenizer)


def mapped(texts: tuple[tuple[str, ...], ...], tokenizer: Tokenizer, folder: Path) -> Tokens:
    found = load_tokens(texts, tokenizer, folder, everything)
    assert isinstance(found, TokenTable)
    assert found.folder is not None
    return found


def on_demand(texts: tuple[tuple[str, ...], ...], tokenizer: Tokenizer, folder: Path) -> Tokens:
    return TokensOnDemand(texts, tokenizer)


@pytest.mark.parametrize("make", [in_memory, mapped, on_demand])
@pytest.mark.usefixtures("large")
def test_tokens_are_those_of_each_text_alone(
    make: Callable[..., Tokens], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    texts, draw = some_texts(), np.random.default_rng(1)
    indices, draws = draw.integers(0, len(texts), 500), draw.random(500)
    tokens = make(texts, tokenizer, tmp_path)
    expected = by_loop(texts, tokenizer, indices, draws)
    for found in (tokens, copy.deepcopy(tokens)):
        chosen = found.chosen(indices, draws)
        assert chosen.dtype == np.int32
        np.testing.assert_array_equal(chosen, expected)
    all_ids = np.unique(tokenizer.encode([text for own in texts for text in own]))
    np.testing.assert_array_equal(tokens.distinct_ids(), all_ids)


def test_few_texts_stay_in_memory(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokens = load_tokens(some_texts(), tokenizer, tmp_path, everything)
    assert isinstance(tokens, TokenTable)
    assert tokens.folder is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("large")
def test_a_second_start_maps_what_the_first_made(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def nothing_is_made(items: Iterable[Any], total: int) -> Iterable[Any]:
        raise AssertionError("made again")

    mapped(some_texts(), tokenizer, tmp_path)
    found = load_tokens(some_texts(), tokenizer, tmp_path, nothing_is_made)
    assert isinstance(found, TokenTable)
    assert not found.ids.flags.writeable
    assert len(pickle.dumps(found)) < 500
    assert [path.name[:7] for path in tmp_path.iterdir()] == ["tokens_"]


@pytest.mark.usefixtures("large")
def test_other_texts_and_tokenizers_have_other_folders(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from protoclip.encoders.tokenizer_lookup import tokenizer_for

    texts = some_texts()
    other = Tokenizer(tokenizer_for("ViT-B-32")[0], TextSpec(77, "whitespace"))
    moved = (texts[0] + texts[1], *texts[2:])
    joined = (("ab", "c"), ("a", "bc")) * 6
    for number, (own, by) in enumerate(
        [(texts, tokenizer), (texts[1:], tokenizer), (texts, other), (moved, tokenizer), (joined, tokenizer)]
    ):
        load_tokens(own, by, tmp_path, everything)
        assert len(list(tmp_path.iterdir())) == number + 1
    assert digest_of([("ab", "c")]) != digest_of([("a", "bc")])
    assert digest_of([("a", "b"), ("c",)]) != digest_of([("a",), ("b", "c")])


@pytest.mark.parametrize("rows", [None, np.array([3, 4, 7, 20]), np.array([70, 2, 2, 41]), np.zeros(0, np.int64)])
@pytest.mark.parametrize("block", [7, 2**16])
def test_texts_of_a_table_are_those_of_tuples(
    rows: NDArray[np.int64] | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read block by block, without a Python object each."""
    monkeypatch.setattr("protoclip.data.flat_texts._BLOCK", block)
    texts = [tuple(text for text in own if "\ud83d" not in text) or ("none",) for own in some_texts()]
    lists = [pa.array([list(own) for own in texts[start : start + 30]]) for start in range(0, len(texts), 30)]
    column = TextColumn(pa.chunked_array(lists), rows)
    same = texts if rows is None else [texts[row] for row in rows]
    assert digest_of(column) == digest_of(same)
    found, expected = flat_texts(column), flat_texts(same)
    assert found.values.equals(expected.values)
    np.testing.assert_array_equal(found.first, expected.first)


def test_the_hash_does_not_depend_on_how_texts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = some_texts()
    whole = digest_of(texts)
    monkeypatch.setattr("protoclip.data.flat_texts._BLOCK", 7)
    assert digest_of(list(texts)) == whole
    assert whole[1] == sum(map(len, texts))
    assert flat_texts(texts).first.tolist() == np.cumsum([0, *map(len, texts)]).tolist()


@pytest.mark.usefixtures("large")
def test_the_first_of_two_runs_at_once_wins(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The second begins and ends while the first writes."""
    texts = some_texts()

    def meanwhile(items: Iterable[Any], total: int) -> Iterable[Any]:
        mapped(texts, tokenizer, tmp_path)
        return items

    found = load_tokens(texts, tokenizer, tmp_path, meanwhile)
    np.testing.assert_array_equal(
        found.chosen(np.arange(9), np.zeros(9)), by_loop(texts, tokenizer, np.arange(9), np.zeros(9))
    )
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("large")
def test_on_a_full_disk_a_warning_says_so_and_batches_are_tokenized(
    tokenizer: Tokenizer,
    tmp_path: Path,
    full_disk: Callable[[int], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    texts = some_texts()
    with full_disk(64):
        found = load_tokens(texts, tokenizer, tmp_path, everything)
    assert isinstance(found, TokensOnDemand)
    assert f"{tmp_path}: the tokens of {sum(map(len, texts))} texts can't be kept here: File too" in caplog.text
    assert "data.cache_dir" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("large")
def test_a_disk_that_is_too_small_is_seen_after_the_first_chunk(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = type("Usage", (), {"free": 100})
    monkeypatch.setattr(token_cache.shutil, "disk_usage", lambda path: free)
    assert isinstance(load_tokens(some_texts(), tokenizer, tmp_path, everything), TokensOnDemand)
    assert "No space left" in caplog.text


@pytest.mark.usefixtures("large")
def test_a_folder_that_cannot_be_made(
    tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file")
    assert isinstance(load_tokens(some_texts(), tokenizer, tmp_path / "taken", everything), TokensOnDemand)
    assert "can't be kept here" in caplog.text


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("name", ["ids", "rows", "tokens.json"])
def test_damaged_files_are_made_again(
    tokenizer: Tokenizer, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = some_texts()
    mapped(texts, tokenizer, tmp_path)
    (path,) = tmp_path.glob(f"tokens_*/{name}")
    path.write_bytes(path.read_bytes()[:-5])
    found = mapped(texts, tokenizer, tmp_path)
    assert "it is made again" in caplog.text
    np.testing.assert_array_equal(
        found.chosen(np.arange(80), np.zeros(80)), by_loop(texts, tokenizer, np.arange(80), np.zeros(80))
    )


@pytest.mark.usefixtures("large")
def test_nothing_is_made_where_nothing_may_be_written(tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = (*some_texts(), (BAD,))
    assert isinstance(load_tokens(texts, tokenizer, tmp_path, everything, write=False), TokensOnDemand)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("make", [in_memory, mapped])
def test_a_bad_text_is_named_with_its_row(
    make: Callable[..., Tokens], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    texts = (*some_texts(), ("good", BAD), (BAD,))
    with pytest.raises(DataError, match=r"data\.text_columns: a text of row 80 can't be used: '&#999"):
        make(texts, tokenizer, tmp_path)
    with pytest.raises(DataError, match="a text of row 81 can't be used"):
        TokensOnDemand(texts, tokenizer).chosen(np.array([3, 81]), np.zeros(2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("large")
def test_the_global_generator_is_left_alone(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Weights are drawn from it after the data was read."""
    before = torch.get_rng_state()
    mapped(some_texts(), tokenizer, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_of_two_ranks_makes_them_and_both_map_them(tmp_path: Path) -> None:
    run_on_ranks("tokens.py", 2, str(tmp_path / "cache"), str(tmp_path))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert (first["made"], second["made"]) == (1, 0)
    assert (first["mapped"], second["mapped"]) == (True, True)
    assert first["tokens"] == second["tokens"]


def test_the_cache_lies_with_the_users_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / "protoclip"
    assert cache_folder("here") == Path("here")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder(None) == Path.home() / ".cache" / "protoclip"
