"""The client in the classes that other libraries take for a model of embeddings.

Each is loaded when it is first used, with the library that it is for; the client needs none of them:

    from protoclip.integrations import LangChainEmbeddings

    embeddings = LangChainEmbeddings("grpc://localhost:8001")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from protoclip.contract.install import install_command

if TYPE_CHECKING:
    from .fiftyone_model import FiftyOneModel
    from .haystack_embedders import HaystackDocumentEmbedder, HaystackImageEmbedder, HaystackTextEmbedder
    from .langchain_embeddings import LangChainEmbeddings
    from .llama_index_embedding import LlamaIndexEmbedding
    from .sentence_encoder import SentenceEncoder

_MODULE_AND_EXTRA = {
    "FiftyOneModel": ("fiftyone_model", "fiftyone"),
    "HaystackDocumentEmbedder": ("haystack_embedders", "haystack"),
    "HaystackImageEmbedder": ("haystack_embedders", "haystack"),
    "HaystackTextEmbedder": ("haystack_embedders", "haystack"),
    "LangChainEmbeddings": ("langchain_embeddings", "langchain"),
    "LlamaIndexEmbedding": ("llama_index_embedding", "llama-index"),
    "SentenceEncoder": ("sentence_encoder", None),
}

__all__ = [
    "FiftyOneModel",
    "HaystackDocumentEmbedder",
    "HaystackImageEmbedder",
    "HaystackTextEmbedder",
    "LangChainEmbeddings",
    "LlamaIndexEmbedding",
    "SentenceEncoder",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_AND_EXTRA:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _MODULE_AND_EXTRA[name]
    try:
        return getattr(import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("protoclip"):
            raise
        message = f"{name} needs the package {error.name}, which is not installed: {install_command(extra)}"
        raise ModuleNotFoundError(message, name=error.name) from error


def __dir__() -> list[str]:
    return sorted(__all__)
