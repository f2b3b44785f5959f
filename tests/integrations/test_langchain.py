"""LangChain's Embeddings, with langchain-core itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from protoclip.client import Client
from protoclip.contract.errors import ItemError
from protoclip.integrations import LangChainEmbeddings

TEXTS = ["a red shoe", "a blue hat", "a green sock"]


@pytest.fixture
def embeddings(client: Client) -> LangChainEmbeddings:
    return LangChainEmbeddings(client)


def test_texts_and_pictures_are_lists_of_floats(
    embeddings: LangChainEmbeddings, client: Client, pictures: list[Path]
) -> None:
    assert isinstance(embeddings, Embeddings)
    documents = embeddings.embed_documents(TEXTS)
    assert isinstance(documents[0][0], float)
    np.testing.assert_array_equal(np.array(documents, np.float32), client.embed_texts(TEXTS))
    np.testing.assert_array_equal(
        np.array(embeddings.embed_query(TEXTS[1]), np.float32), client.embed_texts(TEXTS[1])
    )
    found = embeddings.embed_image([str(path) for path in pictures[:3]])
    np.testing.assert_array_equal(np.array(found, np.float32), client.embed_images(pictures[:3]))
    assert embeddings.embed_images(pictures[:1]) == found[:1]
    assert embeddings.embed_documents([]) == []


def test_a_store_finds_its_documents_again(embeddings: LangChainEmbeddings) -> None:
    store = InMemoryVectorStore(embeddings)
    store.add_documents([Document(text) for text in TEXTS])
    assert [found.page_content for found in store.similarity_search(TEXTS[2], k=1)] == [TEXTS[2]]
    found = asyncio.run(store.asimilarity_search_with_score(TEXTS[0], k=1))
    assert found[0][0].page_content == TEXTS[0]
    assert found[0][1] == pytest.approx(1.0, abs=1e-5)


def test_a_bad_item_is_named(embeddings: LangChainEmbeddings, pictures: list[Path]) -> None:
    with pytest.raises(ItemError) as caught:
        embeddings.embed_documents(["a", "", "b"])
    assert caught.value.position == 1
    with pytest.raises(ItemError) as caught:
        embeddings.embed_images(pictures)
    assert caught.value.position == 3
    with pytest.raises(ItemError, match="item 0"):
        embeddings.embed_image(["https://example.org/cat.jpg"])


def test_it_may_be_made_from_an_address(tiny_artifact: Path) -> None:
    embeddings = LangChainEmbeddings(str(tiny_artifact), model="tiny", timeout_s=60)
    with embeddings.client:
        assert len(embeddings.embed_query("a")) == 16
