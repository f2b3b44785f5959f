"""Encoded pictures to pixels, before the image encoder.

`image` BYTES [B, 1] → `pixels` UINT8 [B, H, W, 3] and `error` UINT8 [B, 256]. A bad picture has its reason in
`error` and black pixels; the others of its request are not affected. A request whose only picture is bad is
refused as INVALID_ARGUMENT.

`pixels.py` and the files that it imports, beside this one, are copies of those in `protoclip/contract/`, made when
the repository was written.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .pixels import PictureError, PixelSpec, load_pixels
from .reasons import pack_reasons
from .refused_items import RefusedItems


class TritonPythonModel:
    """Decodes all pictures of a batch of requests in a small pool of threads; Pillow decodes outside the GIL."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the specification and the output's name from the model configuration."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        fields = json.loads(parameters["spec"])
        for name in ("fill", "background"):
            fields[name] = tuple(fields[name])
        self._spec = PixelSpec(**fields)
        self._output = config["output"][0]["name"]
        self._refused = RefusedItems(args["model_name"])
        self._black = np.zeros((self._spec.height, self._spec.width, 3), dtype=np.uint8)
        threads = int(parameters["decode_threads"]) or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(threads)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order."""
        pictures = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel() for request in requests]
        flat = [data for batch in pictures for data in batch]
        decoded = iter(self._pool.map(self._decode, flat) if len(flat) > 1 else map(self._decode, flat))
        return [self._respond([next(decoded) for _ in batch]) for batch in pictures]

    def finalize(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _decode(self, data: bytes) -> tuple[Any, str]:
        try:
            return load_pixels(data, self._spec), ""
        except PictureError as error:
            return self._black, str(error)
        except Exception as error:  # noqa: BLE001 - whatever the error is, it must not affect other pictures
            pb_utils.Logger.log_error(f"unexpected {type(error).__name__} while decoding a picture: {error}")
            return self._black, f"the picture can't be decoded ({type(error).__name__})"

    def _respond(self, decoded: list[tuple[Any, str]]) -> Any:
        errors = [error for _, error in decoded]
        self._refused.count(errors)
        if len(decoded) == 1 and errors[0]:
            refusal = pb_utils.TritonError(errors[0], pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], refusal)
        pixels = np.stack([pixels for pixels, _ in decoded])
        reasons = pack_reasons(errors)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(self._output, pixels), pb_utils.Tensor("error", reasons)]
        )
