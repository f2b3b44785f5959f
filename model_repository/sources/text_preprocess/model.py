"""Texts to token ids, before the text encoder.

`text` BYTES [B, 1] (UTF-8) → `tokens` INT32 [B, T] and `error` BYTES [B, 1]. A bad text has its reason in
`error` and the tokens of the empty text; the others of its request are not affected. A request whose only
text is bad is refused as INVALID_ARGUMENT.

`text.py` beside this file is the project's one implementation, copied here when the repository was written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .text import TextError, TextSpec, Tokenizer, check_text


class TritonPythonModel:
    """Tokenizes all texts of a batch of requests in one call."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the specification and the output's name from the model configuration, and the tokenizer."""
        config = json.loads(args["model_config"])
        spec = TextSpec(**json.loads(config["parameters"]["spec"]["string_value"]))
        folder = Path(args["model_repository"]) / args["model_version"]
        self._tokenizer = Tokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"), spec)
        self._output = config["output"][0]["name"]

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order."""
        batches = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy().ravel() for request in requests]
        checked = [_check(data) for batch in batches for data in batch]
        tokens = self._tokenizer.encode([text for text, _ in checked])
        responses, start = [], 0
        for batch in batches:
            end = start + len(batch)
            responses.append(self._respond(tokens[start:end], [error for _, error in checked[start:end]]))
            start = end
        return responses

    def _respond(self, tokens: Any, errors: list[str]) -> Any:
        if len(errors) == 1 and errors[0]:
            refusal = pb_utils.TritonError(errors[0], pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], refusal)
        reasons = np.array([[error.encode("utf-8")] for error in errors], dtype=np.object_)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(self._output, tokens), pb_utils.Tensor("error", reasons)]
        )


def _check(data: bytes) -> tuple[str, str]:
    try:
        return check_text(data.decode("utf-8")), ""
    except UnicodeDecodeError as error:
        return "", f"not UTF-8: byte {data[error.start]:#04x} at position {error.start}"
    except TextError as error:
        return "", str(error)
