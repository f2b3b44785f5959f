"""A client's request while it arrives: its bounds are checked as early as they can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from .given_up import CALL_HEADER
from .infer_request import check_index, check_infer
from .refusal import Refusal
from .routes import Route
from .settings import Limits

HEADER_SIZE = b"inference-header-content-length"
FREE_CHUNKS = 100
"""So many chunks may have any size."""


@dataclass
class HttpRequest:
    """What has arrived of a request.

    Attributes:
        path: of the request line, whole after the head.
        declared: Content-Length; None where there is none.
        json_bytes: length of the JSON part; None for the whole body.
        expects: the client waits for "100 Continue" before it sends the body.
        body: the blocks of the body, decoded from chunks.
    """

    limits: Limits
    path: bytes = b""
    head_bytes: int = 0
    unparsed_bytes: int = 0
    num_headers: int = 0
    declared: int | None = None
    json_bytes: int | None = None
    expects: bool = False
    keep_alive: bool = True
    body: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    num_chunks: int = 0
    route: Route | None = None

    def add_header(self, name: bytes, value: bytes) -> None:
        """Takes note of a header, or of one after a chunked body.

        Raises:
            Refusal: there are too many, or one can't be served.
        """
        self.num_headers += 1
        self.add_head(len(name) + len(value))
        if self.num_headers > self.limits.headers:
            raise _too_large(f"more than {self.limits.headers} headers")
        lower = name.lower()
        if lower == b"content-length":
            self.declared = _length(value, "Content-Length")
            self._check_size(self.declared)
        elif lower == HEADER_SIZE:
            self.json_bytes = _length(value, "Inference-Header-Content-Length")
        elif lower == b"content-encoding" and value.strip().lower() != b"identity":
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "compressed bodies are not taken: send the body without Content-Encoding",
            )
        elif lower == b"expect":
            self.expects = value.lower() == b"100-continue"

    def add_head(self, num_bytes: int) -> None:
        """Counts bytes of request line and headers."""
        self.head_bytes += num_bytes
        self._check_head()

    def add_unparsed(self, num_bytes: int) -> None:
        """Counts bytes as they came, of which the parser may not have reported any."""
        self.unparsed_bytes += num_bytes
        self._check_head()

    def _check_head(self) -> None:
        # One or the other, or the limit would depend on how the bytes are cut.
        if max(self.head_bytes, self.unparsed_bytes) > self.limits.header_bytes:
            raise _too_large(f"more than {self.limits.header_bytes} bytes of headers")

    def add_body(self, block: bytes) -> None:
        """Keeps a block; raises Refusal where the body grows too long."""
        self.body_bytes += len(block)
        self._check_size(self.body_bytes)
        self.body.append(block)

    def add_chunk(self) -> None:
        """Counts the chunks of a body: many small ones cost much more than their bytes say."""
        self.num_chunks += 1
        if self.num_chunks > FREE_CHUNKS + self.body_bytes // self.limits.chunk_bytes:
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                f"the body comes in chunks of less than {self.limits.chunk_bytes} bytes: send it whole, "
                "with Content-Length",
            )

    def to_upstream(self, max_batch_size: int, call: int = 0) -> list[bytes | memoryview]:
        """The request as it is sent to Triton: whole, with a length, and the call's number if it has one.

        Raises:
            Refusal: 400, for a body that is not what the route takes.
        """
        assert self.route is not None
        path = self.route.path.encode()
        if self.route.kind == "infer":
            return self._infer(path, max_batch_size, call)
        if self.route.kind == "index":
            return _post(path, [check_index(b"".join(self.body))], None)
        if self.body_bytes:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"{self.route.path} takes no body")
        return [b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path]

    def _infer(self, path: bytes, max_batch_size: int, call: int) -> list[bytes | memoryview]:
        length = self.body_bytes if self.json_bytes is None else self.json_bytes
        if length > self.body_bytes:
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                f"Inference-Header-Content-Length={length}, but the body has {self.body_bytes} bytes",
            )
        if length > self.limits.json_bytes:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the JSON part has {length} bytes, the limit is {self.limits.json_bytes}: "
                "send tensors as binary data",
            )
        if length == 0 and self.json_bytes == 0 and self.body_bytes:
            # A body without JSON is the only element of the model's only input.
            return _post(path, self.body, 0, call)
        text, rest = _split(self.body, length)
        checked = check_infer(text, self.body_bytes - length, max_batch_size)
        return _post(path, [checked, *rest], len(checked), call)

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self.limits.body_bytes:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body has more than {self.limits.body_bytes} bytes: send fewer items at once",
            )


def _too_large(reason: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)


def _length(value: bytes, name: str) -> int:
    text = value.strip()
    if not text.isdigit() or len(text) > 18:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{name} is no number of bytes")
    return int(text)


def _split(blocks: Sequence[bytes], length: int) -> tuple[bytes, list[bytes | memoryview]]:
    """The first `length` bytes, and the rest uncopied."""
    head: list[bytes | memoryview] = []
    for place, block in enumerate(blocks):
        if length <= len(block):
            view = memoryview(block)
            return b"".join([*head, view[:length]]), [view[length:], *blocks[place + 1 :]]
        head.append(block)
        length -= len(block)
    return b"".join(head), []


def _post(
    path: bytes, blocks: Sequence[bytes | memoryview], json_bytes: int | None, call: int = 0
) -> list[bytes | memoryview]:
    size = sum(map(len, blocks))
    header = b"" if json_bytes is None else b"Inference-Header-Content-Length: %d\r\n" % json_bytes
    header += b"%b: %d\r\n" % (CALL_HEADER, call) if call else b""
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%b\r\n" % (path, size, header)
    return [head, *blocks]
