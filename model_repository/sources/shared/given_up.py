"""Whether somebody still waits for a request, which the guard knows and Triton does not.

A copy of this file lies beside the `model.py` of every Python model. The guard writes the table
(`serving/guard/given_up.py`).
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable
from typing import Any

FILE_VARIABLE = "PROTOCLIP_GIVEN_UP"
"""Names the table in the server's environment; without it, somebody waits for every request."""
CALL = "x-protoclip-call"
NUMBER_BYTES = 8
MAX_DIGITS = 19


class GivenUp:
    """The guard's table of calls whose clients have gone."""

    def __init__(self) -> None:
        """Raises OSError where the table is named and can't be read."""
        self._table: mmap.mmap | None = None
        if path := os.environ.get(FILE_VARIABLE):
            with open(path, "rb") as file:
                self._table = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def has(self, request: Any) -> bool:
        """Whether the client of `request` has gone; False for one that did not come through the guard."""
        if self._table is None:
            return False
        parameters = request.parameters()
        if CALL not in parameters:
            return False
        try:
            number = json.loads(parameters)[CALL]
        except (KeyError, ValueError):
            return False
        # A client may have set a parameter of this name itself.
        if not isinstance(number, str) or not number.isdecimal() or len(number) > MAX_DIGITS:
            return False
        place = int(number) % (len(self._table) // NUMBER_BYTES) * NUMBER_BYTES
        return int.from_bytes(self._table[place : place + NUMBER_BYTES], "little") == int(number)

    def run(self, requests: list[Any], run: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """The answers of a batch: of `run` to the requests that somebody waits for, errors to the others."""
        given_up = [self.has(request) for request in requests]
        wanted = [request for request, is_given_up in zip(requests, given_up, strict=True) if not is_given_up]
        answers = iter(run(wanted) if wanted else ())
        return [unwanted() if is_given_up else next(answers) for is_given_up in given_up]


def unwanted() -> Any:
    """The answer to a request that nobody waits for."""
    # Only the server has it.
    import triton_python_backend_utils as pb_utils

    error = pb_utils.TritonError("nobody waits for this request any more", pb_utils.TritonError.CANCELLED)
    return pb_utils.InferenceResponse([], error)
