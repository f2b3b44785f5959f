"""FiftyOne's `Model`: embeddings of samples, questions in words, and zero-shot labels. `D` embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone.core.models import EmbeddingsMixin, Model, PromptMixin
from numpy.typing import NDArray

from protoclip.client import Classification, Client


class FiftyOneModel(Model, EmbeddingsMixin, PromptMixin):
    """For `compute_embeddings`, `fiftyone.brain.compute_similarity`, searches in words, and `apply_model`.

    Args:
        client: the client, or an address or an artifact's folder for a new one.
        labels: the classes of `apply_model`; without them it raises ConfigError.
        templates: for the labels, as `Client.classify` takes them.
        options: of the new client, such as `model=` and `timeout_s=`.

    Every method raises ItemError for a bad picture, with its position, and what `Client` raises.

    Example:
        dataset.compute_embeddings(FiftyOneModel("grpc://localhost:8001"), embeddings_field="shop", batch_size=64)
    """

    def __init__(
        self,
        client: Client | str = "grpc://localhost:8001",
        labels: Sequence[str] = (),
        templates: str = "plain",
        **options: Any,
    ) -> None:
        self.client = Client(client, **options) if isinstance(client, str) else client
        self.labels, self.templates = tuple(labels), templates
        self._last: NDArray[np.float32] | None = None

    media_type = "image"
    ragged_batches = False
    transforms = None
    preprocess = False
    has_embeddings = True
    can_embed_prompts = True

    def predict(self, arg: NDArray[np.uint8]) -> fo.Classification:
        """The most probable label of a picture, uint8 `[H, W, 3]`."""
        return self.predict_all([arg])[0]

    def predict_all(self, args: Sequence[NDArray[np.uint8]]) -> list[fo.Classification]:
        """That of each picture."""
        answers: list[Classification] = self.client.classify(list(args), self.labels, self.templates)
        return [fo.Classification(label=answer.label, confidence=answer.score) for answer in answers]

    def get_embeddings(self) -> NDArray[np.float32]:
        """`[N, D]` of the pictures that were embedded last."""
        if self._last is None:
            raise ValueError("get_embeddings: no picture was embedded yet: call embed first")
        return self._last

    def embed(self, arg: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The vector `[D]` of a picture, uint8 `[H, W, 3]`."""
        return self.embed_all([arg])[0]

    def embed_all(self, args: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """`[N, D]` float32 of unit norm."""
        self._last = np.asarray(self.client.embed_images(list(args)))
        return self._last

    def embed_prompt(self, prompt: str) -> NDArray[np.float32]:
        """The vector `[D]` of a text."""
        return np.asarray(self.client.embed_texts(prompt))

    def embed_prompts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """`[N, D]` of texts."""
        return np.asarray(self.client.embed_texts(list(prompts)))
