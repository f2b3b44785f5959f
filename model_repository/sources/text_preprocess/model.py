"""Texts to token ids, before the text encoder.

`text` BYTES [B, 1] (UTF-8) → `tokens` INT32 [B, T] and `error` UINT8 [B, 256]. A bad text has its reason in
`error` and the tokens of the empty text; the others of its request are not affected. A request whose only
text is bad is refused as INVALID_ARGUMENT.

`text.py` and `reasons.py` beside this file are copies of those in `protoclip/contract/`, made when the repository
was written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .reasons import pack_reasons
from .refused_items import RefusedItems
from .text import TextError, TextSpec, Tokenizer, check_text


class TritonPythonModel:
    """Tokenizes the texts of a batch of requests."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the specification and the output's name from the model configuration, and the tokenizer."""
        config = json.loads(args["model_config"])
        spec = TextSpec(**json.loads(config["parameters"]["spec"]["string_value"]))
        folder = Path(args["model_repository"]) / args["model_version"]
        self._tokenizer = Tokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"), spec)
        self._output = config["output"][0]["name"]
        self._refused = RefusedItems(args["model_name"])
        self._empty = self._tokenizer.encode([""])[0]

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order."""
        return [
            self._respond([self._encode(data) for data in _texts(request).as_numpy().ravel()])
            for request in requests
        ]

    def _encode(self, data: bytes) -> tuple[Any, str]:
        try:
            return self._tokenizer.encode([check_text(data.decode("utf-8"))])[0], ""
        except UnicodeDecodeError as error:
            return self._empty, f"not UTF-8: byte {data[error.start]:#04x} at position {error.start}"
        except TextError as error:
            return self._empty, str(error)
        except Exception as error:  # noqa: BLE001 - whatever the error is, it must not affect other texts
            pb_utils.Logger.log_error(f"unexpected {type(error).__name__} while tokenizing a text: {error}")
            return self._empty, f"the text can't be tokenized ({type(error).__name__})"

    def _respond(self, encoded: list[tuple[Any, str]]) -> Any:
        errors = [error for _, error in encoded]
        self._refused.count(errors)
        if len(encoded) == 1 and errors[0]:
            refusal = pb_utils.TritonError(errors[0], pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], refusal)
        tokens = np.stack([tokens for tokens, _ in encoded])
        reasons = pack_reasons(errors)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(self._output, tokens), pb_utils.Tensor("error", reasons)]
        )


def _texts(request: Any) -> Any:
    return pb_utils.get_input_tensor_by_name(request, "text")
