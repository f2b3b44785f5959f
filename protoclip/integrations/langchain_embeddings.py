"""LangChain's `Embeddings`. `D` embedding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.embeddings import Embeddings

from protoclip.client import Client
from protoclip.client.inputs import ImageItem


class LangChainEmbeddings(Embeddings):
    """Texts and pictures as vectors of one space, for LangChain's vector stores and retrievers.

    The asynchronous methods run the synchronous ones in LangChain's threads.

    Args:
        client: the client, which may be shared, or an address or an artifact's folder for a new one.
        options: of the new client, such as `model=` and `timeout_s=`.

    Every method raises ItemError for a bad item, with its position, and what `Client` raises.

    Example:
        store = InMemoryVectorStore(LangChainEmbeddings("grpc://localhost:8001"))
    """

    def __init__(self, client: Client | str = "grpc://localhost:8001", **options: Any) -> None:
        self.client = Client(client, **options) if isinstance(client, str) else client

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector of `D` numbers with unit norm for each text."""
        return self.client.embed_texts(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text: CLIP's models make no difference between questions and documents."""
        return self.client.embed_texts(text).tolist()

    def embed_images(self, images: Iterable[ImageItem]) -> list[list[float]]:
        """A vector for each picture: paths, bytes, PIL images or arrays; no address is fetched."""
        return self.client.embed_images(list(images)).tolist()

    def embed_image(self, uris: list[str]) -> list[list[float]]:
        """As `embed_images`: the name by which LangChain's vector stores look for it."""
        return self.embed_images(uris)
