"""Encoded pictures to pixels, before the image encoder.

`image` BYTES [B, 1] → `pixels` UINT8 [B, H, W, 3] and `error` UINT8 [B, 256], and where it is asked for `decoders`
UINT8 [B, 1024], which says what decodes pictures here (`decoders.py`). A bad picture has its reason in
`error` and black pixels; the others of its request are not affected. A request whose only picture is bad is
refused as INVALID_ARGUMENT. Large pictures (`large_pictures.py`) come last and one request at a time: while one is
decoded in another process of the model, further ones are refused as UNAVAILABLE.

`pixels.py` and the files that it imports, beside this one, are copies of those in `protoclip/contract/`, made when
the repository was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .decoders import decoder_versions, pack_decoders
from .given_up import GivenUp
from .item_requests import ItemRequest, answer_all, still_wanted
from .large_pictures import LARGE_PIXELS, LARGE_REQUEST_PIXELS, only_one, run_in_background
from .pixels import PictureError, PixelSpec, count_pixels
from .refused_items import RefusedItems
from .scaled_pixels import LOADERS

TOGETHER_PIXELS = 1_000_000
"""Lone pictures with fewer together are answered together: they take some milliseconds each."""


class TritonPythonModel:
    """Decodes the pictures of a batch of requests in a pool of threads; Pillow decodes outside the GIL."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the specification and the output's name from the model configuration."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        fields = json.loads(parameters["spec"])
        for name in ("fill", "background"):
            fields[name] = tuple(fields[name])
        self._spec = PixelSpec(**fields)
        self._load_pixels = LOADERS[parameters["decoding"]]  # type: ignore[index]
        self._output = config["output"][0]["name"]
        self._refused = RefusedItems(args["model_name"])
        self._given_up = GivenUp()
        self._constants = {"decoders": pack_decoders(decoder_versions())}
        self._black = np.zeros((self._spec.height, self._spec.width, 3), dtype=np.uint8)
        threads = int(parameters["decode_threads"]) or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(threads)
        self._background = ThreadPoolExecutor(max(1, threads // 2), initializer=run_in_background)
        # The server's process is the parent of all processes of this model.
        self._large = f"{os.getppid()}:{args['model_name']}"

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answers each request as soon as its pictures are done, small requests first.

        A crowd of small lone pictures is answered at once: that takes one message to the server instead of one
        each, and the encoder gets them as one batch.
        """
        items = [
            ItemRequest(request, "image", self._output, self._refused, self._constants)
            for request in still_wanted(requests, self._given_up)
        ]
        # The server takes all of a batch's answers so, or none.
        may_keep = len(items) == len(requests) and all(len(request.items) == 1 for request in items)
        answer_all(items, lambda wanted: self._run(wanted, may_keep=may_keep))
        kept = [request.kept for request in items]
        return None if None in kept or len(kept) < len(requests) else kept

    def finalize(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)
        self._background.shutdown(cancel_futures=True)

    def _run(self, requests: Sequence[ItemRequest], *, may_keep: bool) -> None:
        costs = [
            (sum(count_pixels(data, self._spec.max_pixels) for data in request.items), request)
            for request in requests
        ]
        costs.sort(key=lambda pair: pair[0])
        if may_keep and sum(pixels for pixels, _ in costs) <= TOGETHER_PIXELS:
            for request in requests:
                request.keep()
        self._decode_all([request for pixels, request in costs if pixels <= LARGE_PIXELS])
        for pixels, request in costs:
            if pixels > LARGE_REQUEST_PIXELS:
                request.refuse(
                    f"the request's pictures have {pixels} pixels together, the limit is "
                    f"{LARGE_REQUEST_PIXELS}: send fewer in one request"
                )
            elif pixels > LARGE_PIXELS:
                self._decode_large(request)

    def _decode_large(self, request: ItemRequest) -> None:
        with only_one(self._large) as alone:
            done = list(self._background.map(self._decode, request.items)) if alone else None
        # Behind the block: whoever has the answer may send the next one at once.
        if done is None:
            request.refuse("the server decodes other large pictures now: try again", "UNAVAILABLE")
        else:
            request.answer(done)

    def _decode_all(self, requests: Sequence[ItemRequest]) -> None:
        if len(requests) == 1 and len(requests[0].items) == 1:
            # Handing a lone picture to another thread, and waiting for it, costs a tenth of its time.
            requests[0].answer([self._decode(requests[0].items[0])])
            return
        places: dict[Future[tuple[Any, str]], tuple[int, int]] = {}
        for number, request in enumerate(requests):
            for position, data in enumerate(request.items):
                places[self._pool.submit(self._decode, data)] = (number, position)
        done: list[dict[int, tuple[Any, str]]] = [{} for _ in requests]
        for future in as_completed(places):
            number, position = places[future]
            done[number][position] = future.result()
            if len(done[number]) == len(requests[number].items):
                requests[number].answer(
                    [part for _, part in sorted(done[number].items(), key=lambda item: item[0])]
                )

    def _decode(self, data: bytes) -> tuple[Any, str]:
        try:
            return self._load_pixels(data, self._spec), ""
        except PictureError as error:
            return self._black, str(error)
        except Exception as error:  # noqa: BLE001 - whatever the error is, it must not affect other pictures
            pb_utils.Logger.log_error(f"unexpected {type(error).__name__} while decoding a picture: {error}")
            return self._black, f"the picture can't be decoded ({type(error).__name__})"
