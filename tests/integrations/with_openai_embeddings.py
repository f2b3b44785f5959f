"""LangChain's and LlamaIndex's classes for OpenAI's embeddings, asked of a gateway: `make integrations`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from dialect_server import KEY, serve_gateway
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai import OpenAIEmbedding
from running_gateway import RunningGateway

from protoclip.client import ArtifactTransport, Client

TEXTS = ["a red shoe", "a blue hat", "a green sock"]


@pytest.fixture(scope="module")
def served(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with serve_gateway(ArtifactTransport(tiny_artifact), tmp_path_factory.mktemp("keys")) as found:
        yield found


def langchain(served: RunningGateway, key: str = KEY) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model="tiny",
        base_url=f"{served.url}/v1",
        api_key=key,
        check_embedding_ctx_length=False,
        chunk_size=2,
        max_retries=0,
    )


def llama_index(served: RunningGateway) -> OpenAIEmbedding:
    return OpenAIEmbedding(
        model_name="tiny", api_base=f"{served.url}/v1", api_key=KEY, embed_batch_size=2, max_retries=1
    )


def test_langchain(served: RunningGateway, client: Client) -> None:
    embeddings = langchain(served)
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), client.embed_texts(TEXTS), atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query("a"), client.embed_texts("a"), atol=1e-6)
    found = asyncio.run(embeddings.aembed_documents(TEXTS))
    np.testing.assert_allclose(found, client.embed_texts(TEXTS), atol=1e-6)


def test_langchain_with_a_wrong_key_and_a_blank_text(served: RunningGateway) -> None:
    with pytest.raises(openai.AuthenticationError):
        langchain(served, key="x" * 16).embed_query("a")
    with pytest.raises(openai.BadRequestError, match=r"input\[1\]"):
        langchain(served).embed_documents(["a", " "])


def test_llama_index(served: RunningGateway, client: Client) -> None:
    embeddings = llama_index(served)
    np.testing.assert_allclose(embeddings.get_text_embedding_batch(TEXTS), client.embed_texts(TEXTS), atol=1e-6)
    np.testing.assert_allclose(embeddings.get_query_embedding("a"), client.embed_texts("a"), atol=1e-6)
    found = asyncio.run(embeddings.aget_text_embedding("a"))
    np.testing.assert_allclose(found, client.embed_texts("a"), atol=1e-6)
