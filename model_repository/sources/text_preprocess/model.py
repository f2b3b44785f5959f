"""Texts to token ids, before the text encoder.

`text` BYTES [B, 1] (UTF-8) → `tokens` INT32 [B, T] and `error` UINT8 [B, 256]. A bad text has its reason in
`error` and the tokens of the empty text; the others of its request are not affected. A request whose only
text is bad is refused as INVALID_ARGUMENT.

`text.py` and `reasons.py` beside this file are copies of those in `protoclip/contract/`, made when the repository
was written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from .given_up import GivenUp
from .item_requests import ItemRequest, answer_all, still_wanted
from .refused_items import RefusedItems
from .text import MAX_CHARACTERS, TextError, TextSpec, Tokenizer, check_text

MAX_REQUEST_BYTES = 512 * 1024
"""Of what is read of the texts of a request: all of eight, 8 KiB each of 64. Some 500 KiB a second are cleaned."""


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
        self._given_up = GivenUp()
        self._empty = self._tokenizer.encode([""])[0]

    def execute(self, requests: list[Any]) -> None:
        """Answers each request as soon as its texts are done, short requests first."""
        wanted = still_wanted(requests, self._given_up)
        items = [ItemRequest(request, "text", self._output, self._refused) for request in wanted]
        answer_all(items, self._run)

    def _run(self, requests: Sequence[ItemRequest]) -> None:
        for request in sorted(requests, key=_num_bytes):
            if _num_bytes(request) > MAX_REQUEST_BYTES:
                request.refuse(
                    f"the request's texts have {_num_bytes(request)} bytes together, the limit is "
                    f"{MAX_REQUEST_BYTES}: send fewer in one request"
                )
            else:
                request.answer([self._encode(data) for data in request.items])

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


def _num_bytes(request: ItemRequest) -> int:
    return sum(min(len(data), 4 * MAX_CHARACTERS) for data in request.items)
