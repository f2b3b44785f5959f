"""Haystack's embedders: components that put vectors to texts, documents and pictures. `D` embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import Document, component, default_to_dict

from protoclip.client import Client


class _Embedder:
    """A component that holds an address, by which it is serialized; a token is read from PROTOCLIP_TOKEN."""

    def __init__(
        self, url: str = "grpc://localhost:8001", model: str | None = None, timeout_s: float = 30.0
    ) -> None:
        self.url, self.model, self.timeout_s = url, model, timeout_s
        self._client = Client(url, model=model, timeout_s=timeout_s)

    def to_dict(self) -> dict[str, Any]:
        """The component as Haystack's pipelines are saved."""
        return default_to_dict(self, url=self.url, model=self.model, timeout_s=self.timeout_s)


@component
class HaystackTextEmbedder(_Embedder):
    """A text, such as a question, as a vector of `D` numbers; raises ItemError for a blank one."""

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """Its vector."""
        return {"embedding": self._client.embed_texts(text).tolist()}


@component
class HaystackDocumentEmbedder(_Embedder):
    """Documents with the vectors of their texts; raises ItemError, with its position, for one without a text."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The same documents in the same order, as copies with `embedding`."""
        vectors = self._client.embed_texts([document.content for document in documents]).tolist()
        return {"documents": _with_vectors(documents, vectors)}


@component
class HaystackImageEmbedder(_Embedder):
    """Documents with the vectors of their pictures: `blob` where there is one, else the file `meta["file_path"]`.

    Raises ItemError, with its position, for a document without a picture, or with a bad one.
    """

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The same documents in the same order, as copies with `embedding`."""
        vectors = self._client.embed_images([_picture(document) for document in documents]).tolist()
        return {"documents": _with_vectors(documents, vectors)}


def _picture(document: Document) -> Any:
    return document.meta.get("file_path") if document.blob is None else document.blob.data


def _with_vectors(documents: Sequence[Document], vectors: Sequence[list[float]]) -> list[Document]:
    return [replace(document, embedding=vector) for document, vector in zip(documents, vectors, strict=True)]
