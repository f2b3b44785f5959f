"""`encode` as sentence-transformers has it, for programs that take such a model. `N` items, `D` embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protoclip.client import Client
from protoclip.contract.errors import ConfigError, ItemError

_SINGLE = (str, bytes, bytearray, memoryview, Image.Image)
_USUAL = {"output_value": "sentence_embedding", "precision": "float32"}


class SentenceEncoder:
    """A model with `encode`, whose texts are strings and whose pictures are PIL images, bytes or uint8 arrays.

    A string is always a text, never a path or an address: open the picture, or use `Client`.

    Args:
        client: the client, or an address or an artifact's folder for a new one, which takes `options`.

    Example:
        SentenceEncoder("grpc://localhost:8001").encode(["a red shoe", Image.open("shoe.jpg")])
    """

    def __init__(self, client: Client | str = "grpc://localhost:8001", **options: Any) -> None:
        self.client = Client(client, **options) if isinstance(client, str) else client

    def encode(
        self,
        inputs: Any,
        *,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        normalize_embeddings: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        **others: Any,
    ) -> Any:
        """Vectors of unit norm, `[N, D]` float32 in the items' order; `[D]` for a single one, `[0, D]` for none.

        With `convert_to_tensor` a tensor. Batches are the client's own: `batch_size` changes nothing.

        Raises:
            ItemError: the first bad item, with its position.
            ConfigError: another argument of sentence-transformers that isn't None, such as `prompt`.
        """
        unknown = sorted(name for name, value in others.items() if value not in (None, _USUAL.get(name)))
        if unknown or not (convert_to_numpy or convert_to_tensor):
            name = unknown[0] if unknown else "convert_to_numpy=False"
            raise ConfigError(f"{name} is nothing that SentenceEncoder.encode can do: leave it out")
        single = isinstance(inputs, _SINGLE) or (isinstance(inputs, np.ndarray) and inputs.ndim > 1)
        vectors = self._encode([inputs] if single else list(inputs))
        found = vectors[0] if single else vectors
        if not convert_to_tensor:
            return found
        import torch

        return torch.from_numpy(np.array(found))

    encode_query = encode_document = encode

    def get_sentence_embedding_dimension(self) -> int:
        """D."""
        return self.client.model.embedding_dim

    def _encode(self, items: list[Any]) -> NDArray[np.float32]:
        vectors = np.zeros((len(items), self.client.model.embedding_dim), dtype=np.float32)
        texts = [position for position, item in enumerate(items) if isinstance(item, str)]
        pictures = [position for position, item in enumerate(items) if not isinstance(item, str)]
        for positions, embed in ((texts, self.client.embed_texts), (pictures, self.client.embed_images)):
            part = embed([items[position] for position in positions], "return")
            if part.errors:
                raise ItemError(positions[part.errors[0].position], part.errors[0].reason)
            vectors[positions] = part.vectors
        return vectors
