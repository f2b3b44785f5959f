"""Haystack's embedders, with haystack-ai itself: `make integrations`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.dataclasses import ByteStream
from haystack.document_stores.in_memory import InMemoryDocumentStore

from protoclip.client import Client
from protoclip.contract.errors import ItemError
from protoclip.integrations import HaystackDocumentEmbedder, HaystackImageEmbedder, HaystackTextEmbedder

TEXTS = ["a red shoe", "a blue hat", "a green sock"]


def test_a_pipeline_finds_pictures_by_pictures_words(
    tiny_artifact: Path, client: Client, pictures: list[Path]
) -> None:
    documents = [Document(content=text, meta={"number": number}) for number, text in enumerate(TEXTS)]
    found = HaystackDocumentEmbedder(str(tiny_artifact)).run(documents)["documents"]
    assert [document.meta for document in found] == [document.meta for document in documents]
    np.testing.assert_allclose([document.embedding for document in found], client.embed_texts(TEXTS), atol=1e-6)
    assert documents[0].embedding is None
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(found)
    pipeline = Pipeline()
    pipeline.add_component("text", HaystackTextEmbedder(str(tiny_artifact), model="tiny"))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("text.embedding", "retriever.query_embedding")
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["protoclip.integrations.haystack_embedders"])
    again.get_component("retriever").document_store = store
    for one in (pipeline, again):
        answer = one.run({"text": {"text": TEXTS[1]}})["retriever"]["documents"]
        assert [document.content for document in answer] == [TEXTS[1]]


def test_pictures_come_from_files_and_from_bytes(
    tiny_artifact: Path, client: Client, pictures: list[Path]
) -> None:
    embedder = HaystackImageEmbedder(str(tiny_artifact))
    documents = [
        Document(meta={"file_path": str(pictures[0])}),
        Document(
            blob=ByteStream(pictures[1].read_bytes(), mime_type="image/png"), meta={"file_path": "elsewhere"}
        ),
    ]
    found = embedder.run(documents)["documents"]
    np.testing.assert_allclose([one.embedding for one in found], client.embed_images(pictures[:2]), atol=1e-6)
    with pytest.raises(ItemError) as caught:
        embedder.run([*documents, Document(content="no picture")])
    assert caught.value.position == 2


def test_a_document_without_a_text_is_named(tiny_artifact: Path) -> None:
    with pytest.raises(ItemError) as caught:
        HaystackDocumentEmbedder(str(tiny_artifact)).run([Document(content="a"), Document(content=None)])
    assert caught.value.position == 1
