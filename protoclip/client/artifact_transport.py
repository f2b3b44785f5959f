"""Runs an exported artifact in this process: the client without a server.

`n` items in a request.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.manifest import check_files, load_manifest
from protoclip.contract.pixels import PictureError, load_pixels
from protoclip.contract.reasons import pack_reasons
from protoclip.contract.served_parameters import MAX_BATCH_SIZE, served_parameters
from protoclip.contract.text import TextError, Tokenizer, check_text

from .errors import ModelNotFound, Refused, closed, forked
from .onnx_session import Encode, RunDetector, choose_engine, open_detector_session, open_session
from .openvino_session import open_openvino_session
from .transport import Answer, ModelConfig

Role = Literal["image", "text"]
Part = TypeVar("Part")
_ROLES: tuple[Role, ...] = ("image", "text")
_MAX_DECODERS = 4
_AFTER_FORK = "encoders do not run then: make the first call after the fork, or start processes by 'spawn'"
_users: list[int] = []
"""The process that has run encoders; their threads are missing in every one that is forked off from now on."""
_transports: weakref.WeakSet[ArtifactTransport] = weakref.WeakSet()
_inherited: list[dict[Role, Encode]] = []
"""In a forked process: encoders that must not be freed, since that would wait for threads that stayed behind."""


class ArtifactTransport:
    """Answers as a server with this artifact would: the same pixels, tokens and graphs.

    Encoders are loaded on first use. Timeouts are ignored: a request ends when it is computed.

    Args:
        folder: what `protoclip export` wrote.
        engine: such as onnx_int8; by default the artifact's default engine, or, where that needs a GPU, the
            fastest other one that passed.

    Raises:
        ModelError: no artifact, no such engine, or none that runs on a CPU.

    Example:
        `Client("artifacts/emoji")`, or `Client(transport=ArtifactTransport(folder, engine="onnx_int8"))`
    """

    decodes_here = True
    """Pictures are decoded in this process."""

    def __init__(self, folder: Path, engine: str | None = None) -> None:
        self.url = str(folder)
        self._folder = Path(folder)
        self._manifest = load_manifest(self._folder)
        self._engine = choose_engine(self._manifest, engine, self._folder)
        self._encoders: dict[Role, Encode] = {}
        self._detector: RunDetector | None = None
        self._tokenizer: Tokenizer | None = None
        self._lock = threading.Lock()
        self._decoders = ThreadPoolExecutor(_MAX_DECODERS, thread_name_prefix="protoclip-decoder")
        self._closed = False
        _transports.add(self)

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        """Errors as a server's, and ModelError where a file is not the one that was exported."""
        role = self._role(model)
        if input_name != role:
            raise Refused(self.url, f"unexpected inference input {input_name!r} for model {model!r}")
        if len(items) > MAX_BATCH_SIZE:
            raise Refused(self.url, f"batch-size must be <= {MAX_BATCH_SIZE} for {model!r}")
        encode = self._load(role)
        prepared = self._pictures(items) if role == "image" else self._texts(items)
        errors = tuple(item if isinstance(item, str) else "" for item in prepared)
        if len(items) == 1 and errors[0]:
            raise Refused(self.url, errors[0])
        embeddings = np.zeros((len(items), self._manifest.embedding_dim), dtype=np.float32)
        good = [item for item in prepared if not isinstance(item, str)]
        if good:
            embeddings[[not error for error in errors]] = encode(np.stack(good))
        return Answer(embeddings, errors)

    def infer_judged(self, model: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        """As `infer` of pictures, with what the artifact's detector says of them."""
        answer = self.infer(model, "image", items, timeout_s)
        known, scores = self._load_detector()(answer.embeddings, pack_reasons(answer.errors))
        return replace(answer, known=known, known_scores=scores)

    def ready_models(self, timeout_s: float | None) -> list[str]:
        return [self._manifest.model_name(role) for role in _ROLES]

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        self._role(model)
        return ModelConfig(model, MAX_BATCH_SIZE, served_parameters(self._manifest, self._engine))

    def close(self) -> None:
        """Drops the encoders."""
        self._closed = True
        self._decoders.shutdown(wait=False, cancel_futures=True)
        # Not cleared: in a forked process they are kept.
        self._encoders = {}

    def _role(self, model: str) -> Role:
        for role in _ROLES:
            if model == self._manifest.model_name(role):
                return role
        raise ModelNotFound(f"{self.url}: unknown model {model!r}: there are {self.ready_models(None)}")

    def _load(self, role: Role) -> Encode:
        if _users and _users[0] != os.getpid():
            raise forked(self.url, _AFTER_FORK)
        _users[:] = [os.getpid()]
        with self._lock:
            if self._closed:
                raise closed(self.url)
            if role not in self._encoders:
                encoder = self._engine.image_encoder if role == "image" else self._engine.text_encoder
                open_encoder = open_openvino_session if self._engine.format == "openvino" else open_session
                self._encoders[role] = open_encoder(self._folder, encoder, self._engine)
            if role == "text" and self._tokenizer is None:
                file = self._manifest.tokenizer_file
                check_files(self._folder, {file: self._manifest.tokenizer_sha256})
                self._tokenizer = Tokenizer((self._folder / file).read_text(encoding="utf-8"), self._manifest.text)
            return self._encoders[role]

    def _load_detector(self) -> RunDetector:
        carried = self._manifest.detector
        if carried is None:
            raise Refused(self.url, "the artifact has no detector")
        with self._lock:
            if self._detector is None:
                self._detector = open_detector_session(self._folder, carried)
            return self._detector

    def _pictures(self, items: Sequence[bytes]) -> list[NDArray[np.uint8] | str]:
        spec = self._manifest.pixels

        def decode(data: bytes) -> NDArray[np.uint8] | str:
            return _or_reason(lambda: load_pixels(data, spec))

        try:
            return list(self._decoders.map(decode, items))
        except RuntimeError as error:
            raise closed(self.url) from error

    def _texts(self, items: Sequence[bytes]) -> list[NDArray[np.int32] | str]:
        tokenizer = self._tokenizer
        assert tokenizer is not None

        def encode(data: bytes) -> NDArray[np.int32] | str:
            return _or_reason(lambda: tokenizer.encode([check_text(data.decode("utf-8"))])[0])

        return [encode(data) for data in items]


def _keep_inherited() -> None:
    _inherited.extend(transport._encoders for transport in tuple(_transports))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_inherited)


def _or_reason(make: Callable[[], Part]) -> Part | str:
    try:
        return make()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.object[error.start]:#04x} at position {error.start}"
    except (PictureError, TextError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever the error is, it must not affect other items
        return f"the item can't be read ({type(error).__name__})"
