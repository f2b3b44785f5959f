"""LlamaIndex's `MultiModalEmbedding`. `D` embedding."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import ImageType

from protoclip.client import Client


class LlamaIndexEmbedding(MultiModalEmbedding):
    """Texts and pictures as vectors of one space, for LlamaIndex's multi-modal indexes.

    Every method raises ItemError for a bad item, with its position, and what `Client` raises. A token is read from
    PROTOCLIP_TOKEN and never serialized.

    Example:
        index = MultiModalVectorStoreIndex(nodes, embed_model=model, image_embed_model=model)
    """

    url: str = Field("grpc://localhost:8001", description="a server's address, or an artifact's folder")
    served_model: str | None = Field(None, description="which of the server's models; None: its only one")
    timeout_s: float = Field(30.0, description="total budget in seconds of a call")
    _client: Client = PrivateAttr()

    def __init__(self, url: str = "grpc://localhost:8001", **fields: Any) -> None:
        super().__init__(url=url, **fields)
        self._client = Client(self.url, model=self.served_model, timeout_s=self.timeout_s)

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex's settings name it."""
        return "ProtoclipLlamaIndexEmbedding"

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._client.embed_texts(text).tolist()

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._client.embed_texts(texts).tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, query)

    def _get_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return self._client.embed_images(img_file_path).tolist()

    def _get_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        return self._client.embed_images(img_file_paths).tolist()

    async def _aget_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)
