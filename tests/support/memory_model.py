"""What the tests of client and transports share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.client import MemoryModel
from protoclip.contract.manifest import load_manifest
from protoclip.contract.pixels import load_pixels
from protoclip.contract.text import Tokenizer, check_text


@pytest.fixture(scope="session")
def memory_model(tiny_artifact: Path) -> MemoryModel:
    """The artifact's own encoders, without a server."""
    from onnxruntime import InferenceSession

    manifest = load_manifest(tiny_artifact)
    tokenizer = Tokenizer((tiny_artifact / "tokenizer.json").read_text(encoding="utf-8"), manifest.text)
    image = InferenceSession(tiny_artifact / "image.onnx", providers=["CPUExecutionProvider"])
    text = InferenceSession(tiny_artifact / "text.onnx", providers=["CPUExecutionProvider"])

    def embed_image(data: bytes) -> NDArray[np.float32]:
        return image.run(None, {"pixels": load_pixels(data, manifest.pixels)[np.newaxis]})[0][0]

    def embed_text(item: str) -> NDArray[np.float32]:
        return text.run(None, {"tokens": tokenizer.encode([check_text(item)])})[0][0]

    fields = {"name": manifest.name, "fingerprint": manifest.fingerprint, "temperature": manifest.temperature}
    return MemoryModel(embed_image, embed_text, manifest.embedding_dim, **fields)
