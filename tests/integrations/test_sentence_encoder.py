"""`encode` with the arguments of sentence-transformers; `with_sentence_transformers.py` has that package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protoclip.client import Client
from protoclip.contract.errors import ConfigError, ItemError
from protoclip.integrations import SentenceEncoder


@pytest.fixture
def encoder(client: Client) -> SentenceEncoder:
    return SentenceEncoder(client)


def test_texts_and_pictures_keep_their_places(
    encoder: SentenceEncoder, client: Client, pictures: list[Path]
) -> None:
    images = [Image.open(path) for path in pictures[:2]]
    found = encoder.encode(["a", images[0], "b", images[1]], batch_size=8, show_progress_bar=False)
    assert found.dtype == np.float32
    texts, vectors = client.embed_texts(["a", "b"]), client.embed_images(pictures[:2])
    np.testing.assert_allclose(found, np.stack([texts[0], vectors[0], texts[1], vectors[1]]), atol=1e-6)


@pytest.mark.parametrize("kind", ["text", "image", "bytes", "array"])
def test_a_single_item_is_one_vector(
    encoder: SentenceEncoder, client: Client, pictures: list[Path], kind: str
) -> None:
    picture = Image.open(pictures[0])
    items: dict[str, Any] = {
        "text": "a",
        "image": picture,
        "bytes": pictures[0].read_bytes(),
        "array": np.asarray(picture),
    }
    expected = client.embed_texts("a") if kind == "text" else client.embed_images(pictures[0])
    np.testing.assert_allclose(encoder.encode(items[kind]), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_query([items[kind]]), expected[np.newaxis], atol=1e-6)


def test_nothing_gives_no_rows(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, 16)
    assert encoder.get_sentence_embedding_dimension() == 16


def test_a_path_is_a_text_and_a_bad_item_is_named(
    encoder: SentenceEncoder, client: Client, pictures: list[Path]
) -> None:
    path = str(pictures[0])
    np.testing.assert_allclose(encoder.encode(path), client.embed_texts(path), atol=1e-6)
    with pytest.raises(ItemError) as caught:
        encoder.encode(["a", pictures[3].read_bytes(), "b", ""])
    assert caught.value.position == 1 or caught.value.position == 3
    with pytest.raises(ItemError, match="item 2"):
        encoder.encode(["a", "b", b"no picture"])


@pytest.mark.parametrize("argument", [{"prompt": "query: "}, {"truncate_dim": 8}, {"convert_to_numpy": False}])
def test_arguments_that_would_change_vectors_are_refused(
    encoder: SentenceEncoder, argument: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(argument))):
        encoder.encode(["a"], **argument)
    assert encoder.encode(["a"], prompt=None, device=None, precision="float32").shape == (1, 16)
