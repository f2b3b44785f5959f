"""OpenAI's answers: lists of vectors, lists of models, and error bodies. `N` inputs, `D` embedding."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from protoclip.client import ServedModel
from serving.gateway.errors import Refused, json_response

from .inputs import Encoding

_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
"""OpenAI's own, where programs look at them."""


def embeddings_response(vectors: NDArray[np.float32], encoding: Encoding, model: str, num_words: int) -> Response:
    """The rows of `vectors` `[N, D]`, in order; as base64 they are little-endian float32."""
    rows: list[Any]
    if encoding == "base64":
        rows = [base64.b64encode(row.tobytes()).decode() for row in vectors.astype("<f4", copy=False)]
    else:
        rows = list(vectors)
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    usage = {"prompt_tokens": num_words, "total_tokens": num_words}
    return json_response({"object": "list", "data": data, "model": model, "usage": usage})


def names_of(model: ServedModel) -> tuple[str, ...]:
    """The model's name, and the one with its fingerprint, which always means these weights."""
    return (model.name, model.prefix)


def model_object(name: str, model: ServedModel) -> dict[str, Any]:
    """OpenAI's fields, of which `created` is not known here and 0, and ours."""
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "protoclip",
        "root": model.prefix,
        "embedding_dim": model.embedding_dim,
        "precision": model.precision,
        "verdict": model.verdict,
    }


def render_error(refusal: Refused) -> Response:
    """OpenAI's error body."""
    if refusal.status >= 500:
        kind = "server_error"
    else:
        kind = "rate_limit_error" if refusal.status == 429 else "invalid_request_error"
    code = _CODES.get(refusal.status, refusal.code)
    error = {"message": refusal.message, "type": kind, "param": getattr(refusal, "param", None), "code": code}
    return json_response({"error": error}, refusal.status)
