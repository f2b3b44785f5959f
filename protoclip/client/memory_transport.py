"""A fake server made of two functions, in the same process: for tests of code that uses the client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from protoclip.contract.zero_shot import probabilities_of

from .errors import ModelNotFound, Refused
from .transport import Answer, ModelConfig


@dataclass(frozen=True)
class MemoryModel:
    """A model whose encoders are functions.

    Attributes:
        embed_image: the bytes of a picture file → a vector `[D]`; a ValueError's text becomes the item's error.
        embed_text: a text → a vector `[D]`, with errors likewise.
        embedding_dim: D.
        name: as in the manifest.
        fingerprint: as in the manifest, 6 to 64 hexadecimal digits.
        logit_bias: as in the manifest; with one, classes have sigmoid probabilities.
        bulk_batch_size: as of a server; None: as many as go into a request.
    """

    embed_image: Callable[[bytes], ArrayLike]
    embed_text: Callable[[str], ArrayLike]
    embedding_dim: int
    name: str = "memory"
    fingerprint: str = "000000"
    temperature: float = 100.0
    logit_bias: float | None = None
    max_batch_size: int = 64
    bulk_batch_size: int | None = None

    @property
    def prefix(self) -> str:
        """Prefix of the names of its two served models."""
        return f"{self.name}_{self.fingerprint[:6]}"

    def parameters(self) -> dict[str, str]:
        """The parameters that a server would report."""
        return {
            "protoclip_name": self.name,
            "fingerprint": self.fingerprint,
            "embedding_dim": str(self.embedding_dim),
            "temperature": repr(self.temperature),
            "logit_bias": "" if self.logit_bias is None else repr(self.logit_bias),
            "probabilities": probabilities_of(self.logit_bias),
            "precision": "fp32",
            "verdict": "passed",
            "bulk_batch_size": str(self.bulk_batch_size or self.max_batch_size),
        }


class InMemoryTransport:
    """Answers as a server with these models would: vectors are normalised, a single bad item is refused.

    Example:
        `Client(transport=InMemoryTransport(MemoryModel(embed_image, embed_text, embedding_dim=8)))`
    """

    url = "memory://"

    def __init__(self, *models: MemoryModel) -> None:
        self._models = {f"{model.prefix}_{role}": model for model in models for role in ("image", "text")}

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        memory_model = self._find(model)
        if input_name != model.rsplit("_", 1)[1]:
            raise Refused(self.url, f"unexpected inference input {input_name!r} for model {model!r}")
        if len(items) > memory_model.max_batch_size:
            raise Refused(self.url, f"batch-size must be <= {memory_model.max_batch_size} for {model!r}")
        embeddings = np.zeros((len(items), memory_model.embedding_dim), dtype=np.float32)
        errors = [""] * len(items)
        for position, item in enumerate(items):
            try:
                embeddings[position] = _embed(memory_model, input_name, item)
            except ValueError as error:
                errors[position] = str(error) or type(error).__name__
        if len(items) == 1 and errors[0]:
            raise Refused(self.url, errors[0])
        return Answer(embeddings, tuple(errors))

    def ready_models(self, timeout_s: float | None) -> list[str]:
        return list(self._models)

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        memory_model = self._find(model)
        return ModelConfig(model, memory_model.max_batch_size, memory_model.parameters())

    def close(self) -> None:
        """Does nothing."""

    def _find(self, model: str) -> MemoryModel:
        if model not in self._models:
            raise ModelNotFound(f"{self.url}: unknown model {model!r}: there are {sorted(self._models)}")
        return self._models[model]


def _embed(model: MemoryModel, input_name: str, item: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    vector = model.embed_image(item) if input_name == "image" else model.embed_text(item.decode("utf-8"))
    array = np.asarray(vector, dtype=np.float32)
    norm = np.linalg.norm(array)
    if array.shape != (model.embedding_dim,) or not np.isfinite(norm) or norm == 0:
        raise ValueError(f"the function gave no finite vector of {model.embedding_dim} numbers other than zero")
    return array / norm
