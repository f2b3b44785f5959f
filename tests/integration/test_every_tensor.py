"""Requests of other clients with tensors that no model here takes: refused, and the server lives on."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from protoclip import Client

pytestmark = pytest.mark.timeout(60)
PREFIX = "tiny_012345"
SQUARE = np.zeros((1, 32, 32, 3), dtype=np.uint8)

CASES: dict[str, tuple[str, str, np.ndarray[Any, Any]]] = {
    "numbers for a picture": ("image", "image", np.zeros((1, 1), dtype=np.float32)),
    "NaN for a picture": ("image", "image", np.full((1, 1), np.nan, dtype=np.float32)),
    "pixels for a picture": ("image", "image", SQUARE),
    "two pictures in a row": ("image", "image", np.array([[b"a", b"b"]], dtype=np.object_)),
    "no batch": ("image", "image", np.array([b"a"], dtype=np.object_)),
    "none at all": ("image", "image", np.zeros((0, 1), dtype=np.object_)),
    "more than a batch": ("image", "image", np.array([[b"a"]] * 1000, dtype=np.object_)),
    "another name": ("image", "picture", np.array([[b"a"]], dtype=np.object_)),
    "numbers for a text": ("text", "text", np.ones((1, 1), dtype=np.int32)),
    "real pixels": ("image_encoder", "pixels", SQUARE.astype(np.float32)),
    "large pixels": ("image_encoder", "pixels", np.zeros((1, 33, 32, 3), dtype=np.uint8)),
    "flat pixels": ("image_encoder", "pixels", SQUARE.reshape(1, -1)),
    "few tokens": ("text_encoder", "tokens", np.ones((1, 76), dtype=np.int32)),
    "long tokens": ("text_encoder", "tokens", np.ones((1, 77), dtype=np.int64)),
    "tokens above all": ("text_encoder", "tokens", np.full((1, 77), 2**31 - 1, dtype=np.int32)),
    "tokens below all": ("text_encoder", "tokens", np.full((1, 77), -(2**31), dtype=np.int32)),
}


@pytest.mark.parametrize("name", CASES)
def test_is_refused(client: Client, url: str, name: str) -> None:
    role, input_name, array = CASES[name]
    protocol, address = url.split("://")
    library: ModuleType = getattr(tritonclient, protocol)
    source = library.InferInput(input_name, list(array.shape), np_to_triton_dtype(array.dtype))
    source.set_data_from_numpy(array)
    server = library.InferenceServerClient(address)
    try:
        with pytest.raises(InferenceServerException) as caught:
            server.infer(f"{PREFIX}_{role}", [source])
    finally:
        server.close()
    reason = str(caught.value.message())
    assert 10 < len(reason) < 500
    assert "\n" not in reason.strip()
    assert client.embed_images(SQUARE[0]).shape == (16,)
    assert client.embed_texts("a word").shape == (16,)
