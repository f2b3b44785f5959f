"""Requests of one or more items, each answered as soon as its own items are done.

A copy of this file lies beside the `model.py` of both preprocessing models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .given_up import GivenUp, unwanted
from .reasons import pack_reasons
from .refused_items import RefusedItems


class ItemRequest:
    """One request; `items` are the bytes of its BYTES tensor `input_name` [B, 1].

    Args:
        output_name: the output for the items' arrays.
        refused: counts bad items.
        constants: further outputs, the same for every item, which are sent where they are asked for.
    """

    def __init__(
        self,
        request: Any,
        input_name: str,
        output_name: str,
        refused: RefusedItems,
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        self._request = request
        self._output_name = output_name
        self._refused = refused
        self._answered = self._is_kept = False
        self._kept: Any = None
        self._constants = {
            name: value for name, value in (constants or {}).items() if name in request.requested_output_names()
        }
        self.items: list[bytes] = list(pb_utils.get_input_tensor_by_name(request, input_name).as_numpy().ravel())

    @property
    def kept(self) -> Any:
        """The answer that `execute` has to return; None for a request whose answer is sent."""
        return self._kept

    def keep(self) -> None:
        """Its answer, which is still to come, is returned by `execute` instead of sent."""
        self._is_kept = True

    def answer(self, done: Sequence[tuple[Any, str]]) -> None:
        """Sends the arrays of all items, and the reasons of bad ones; a lone bad item refuses the request."""
        reasons = [reason for _, reason in done]
        self._refused.count(reasons)
        if len(done) == 1 and reasons[0]:
            self.refuse(reasons[0])
            return
        arrays = np.stack([array for array, _ in done])
        tensors = [pb_utils.Tensor(self._output_name, arrays), pb_utils.Tensor("error", pack_reasons(reasons))]
        for name, value in self._constants.items():
            tensors.append(pb_utils.Tensor(name, np.tile(value, (len(done), 1))))
        self._send(pb_utils.InferenceResponse(tensors))

    def refuse(self, reason: str, code: str = "INVALID_ARG") -> None:
        """Sends an error instead, `code` by its name in TritonError; nothing where an answer was sent before."""
        if not self._answered:
            error = pb_utils.TritonError(reason, getattr(pb_utils.TritonError, code))
            self._send(pb_utils.InferenceResponse([], error))

    def _send(self, response: Any) -> None:
        self._answered = True
        if self._is_kept:
            self._kept = response
            return
        self._request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def still_wanted(requests: Sequence[Any], given_up: GivenUp) -> list[Any]:
    """Of Triton's `requests` those that somebody waits for; the others are answered at once."""
    wanted = []
    for request in requests:
        if given_up.has(request):
            request.get_response_sender().send(unwanted(), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        else:
            wanted.append(request)
    return wanted


def answer_all(requests: Sequence[ItemRequest], run: Callable[[Sequence[ItemRequest]], None]) -> None:
    """Calls `run` with the requests, and refuses all that it leaves without an answer."""
    try:
        run(requests)
    except Exception as error:  # noqa: BLE001 - every request needs an answer, or this server waits for ever
        pb_utils.Logger.log_error(f"unexpected {type(error).__name__} in preprocessing: {error}")
    finally:
        for request in requests:
            request.refuse("the preprocessing failed: see the server's log", "INTERNAL")
