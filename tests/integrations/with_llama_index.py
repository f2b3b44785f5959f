"""LlamaIndex's MultiModalEmbedding, with llama-index-core itself: `make integrations`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.embeddings import MultiModalEmbedding

from protoclip.client import Client
from protoclip.contract.errors import ItemError
from protoclip.integrations import LlamaIndexEmbedding

TEXTS = ["a red shoe", "a blue hat", "a green sock"]


@pytest.fixture(scope="module")
def model(tiny_artifact: Path) -> LlamaIndexEmbedding:
    return LlamaIndexEmbedding(str(tiny_artifact), embed_batch_size=2)


def test_texts_and_pictures(model: LlamaIndexEmbedding, client: Client, pictures: list[Path]) -> None:
    assert isinstance(model, MultiModalEmbedding)
    np.testing.assert_allclose(model.get_text_embedding_batch(TEXTS), client.embed_texts(TEXTS), atol=1e-6)
    np.testing.assert_allclose(model.get_query_embedding("a"), client.embed_texts("a"), atol=1e-6)
    paths = [str(path) for path in pictures[:3]]
    np.testing.assert_allclose(model.get_image_embedding_batch(paths), client.embed_images(paths), atol=1e-6)
    np.testing.assert_allclose(model.get_image_embedding(paths[1]), client.embed_images(paths[1]), atol=1e-6)


def test_asynchronously(model: LlamaIndexEmbedding, client: Client, pictures: list[Path]) -> None:
    paths = [str(path) for path in pictures[:3]]

    async def ask() -> tuple[list[float], list[list[float]], list[list[float]]]:
        return (
            await model.aget_query_embedding("a"),
            await model.aget_text_embedding_batch(TEXTS),
            await model.aget_image_embedding_batch(paths),
        )

    query, texts, images = asyncio.run(ask())
    np.testing.assert_allclose(query, client.embed_texts("a"), atol=1e-6)
    np.testing.assert_allclose(texts, client.embed_texts(TEXTS), atol=1e-6)
    np.testing.assert_allclose(images, client.embed_images(paths), atol=1e-6)


def test_an_index_finds_its_documents_again(model: LlamaIndexEmbedding) -> None:
    index = VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=model)
    found = index.as_retriever(similarity_top_k=1).retrieve(TEXTS[2])
    assert [node.node.get_content() for node in found] == [TEXTS[2]]


def test_it_is_serialized_without_its_client(model: LlamaIndexEmbedding, tiny_artifact: Path) -> None:
    facts = model.to_dict()
    assert facts["url"] == str(tiny_artifact)
    again = LlamaIndexEmbedding.from_dict(facts)
    assert again.get_text_embedding("a") == model.get_text_embedding("a")


def test_a_bad_picture_is_named(model: LlamaIndexEmbedding, pictures: list[Path]) -> None:
    with pytest.raises(ItemError) as caught:
        model.get_image_embedding_batch([str(path) for path in pictures[2:]])
    assert caught.value.position == 1
