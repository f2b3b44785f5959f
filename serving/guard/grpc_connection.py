"""One client's gRPC connection: frames pass to a connection to Triton, calls beyond the bounds are refused.

Headers are read, and written anew. What the messages say is not: they are bounded in size, and none is compressed.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

from . import http2_frames as http2
from .control_frames import MAX_CONTROL_BYTES, is_valid
from .door import Door
from .grpc_headers import HeaderReader, check_method, with_call
from .grpc_streams import UNAVAILABLE, Stream
from .grpc_upstream import GrpcUpstream
from .http2_frames import Frame, FrameSplitter, Part
from .refusal import Refusal

CONNECT_S = 5.0
RESETS = 200
"""Calls that a client may give up on one connection, beyond as many as it let finish."""
REMEMBERED = 1000
"""Refused calls of which more may be on its way."""
ORPHANED_S = 120.0
"""How long calls may take whose client has gone."""
ENOUGH_BYTES = 1 << 24
"""Of an answer that nobody reads."""
WRONG_PORT = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"error": "this is the port for gRPC"}'
)

_BLOCKS = (http2.HEADERS, http2.CONTINUATION)
_CONTROL = (http2.RST_STREAM, http2.SETTINGS, http2.PING, http2.WINDOW_UPDATE)
"""Passed on when they are whole. What is neither these, nor headers, nor data, Triton has no use for."""


class GrpcConnection(asyncio.Protocol):
    """The client's side; `GrpcUpstream` is Triton's."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        self.deadline_s: float | None = None
        self._door = door
        self._loop = loop
        self._early = b""
        self._preface = b""
        self._frames = FrameSplitter()
        self._streams: dict[int, Stream] = {}
        self._refused: dict[int, None] = {}
        self._dropping = False
        self._dropped_bytes = 0
        """Of which the client has not been told that it may send as many others."""
        self._control = b""
        self._block = b""
        self._block_flags = 0
        self._headers = HeaderReader()
        self._finished = 0
        self._resets = 0
        self._unread_s: float | None = None
        """When a client is cut off that does not read."""
        self._upstream = GrpcUpstream(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._door.enter(self) or not self._door.state.grpc_port:
            self._transport.abort()
            return
        self.deadline_s = self._door.now() + self._door.limits.header_s

    async def _connect(self) -> None:
        port = self._door.state.grpc_port
        try:
            await asyncio.wait_for(
                self._loop.create_connection(lambda: self._upstream, "127.0.0.1", port), CONNECT_S
            )
        except OSError:
            self._transport.abort()
            return
        if self._transport.is_closing():
            self._upstream.close()
        else:
            self._transport.resume_reading()
            self._upstream.write([self._preface])
            early, self._early = self._early, b""
            self.data_received(early)

    def connection_lost(self, error: Exception | None) -> None:
        self._door.leave(self)
        for number, stream in tuple(self._streams.items()):
            if stream.is_worked_on and self._upstream.connected:
                self._upstream.write([self._let_finish(number, stream)])
            else:
                self.forget(number)
        self._upstream.resume()
        if self._streams:
            self._upstream.write([http2.more_window(0, ENOUGH_BYTES)])
            self._loop.call_later(ORPHANED_S, self._upstream.close)
        else:
            self._upstream.close()

    def upstream_lost(self) -> None:
        """Triton has ended the connection, and with it all calls."""
        for number in tuple(self._streams):
            self.forget(number)
        self.close()

    def _let_finish(self, number: int, stream: Stream) -> bytes:
        """What Triton is told in the place of an end, of which it could end itself."""
        self._door.given_up.add(stream.call)
        end = b"" if stream.whole else http2.data_header(number, 0, http2.END_STREAM)
        if not stream.whole:
            stream.whole, stream.heard_s = True, self._door.now()
        return end + http2.more_window(number, ENOUGH_BYTES)

    def expire(self) -> None:
        """Called when the deadline has passed: too slow a call ends its connection, and so does idleness."""
        if self._transport.is_closing():
            self._transport.abort()
            return
        if self._streams:
            # Something may have come meanwhile.
            self._set_deadline()
            if self.deadline_s is not None and self.deadline_s > self._door.now():
                return
        self.close(http2.NO_ERROR)

    def close(self, code: int | None = None) -> None:
        """Ends the connection, with a reason where the client can still be told one."""
        if self._transport.is_closing():
            return
        if code is not None and self._upstream.at_border:
            self._transport.write(http2.go_away(code))
        # A client that does not read would keep it open.
        self.deadline_s = self._door.now() + self._door.limits.header_s
        self._transport.close()

    def pause_writing(self) -> None:
        self._unread_s = self._door.now() + self._door.limits.write_s
        self._upstream.pause()
        self._set_deadline()

    def resume_writing(self) -> None:
        self._unread_s = None
        self._give_back(0)
        self._upstream.resume()
        self._set_deadline()

    def heard(self, number: int) -> None:
        """Something of a call's answer has come."""
        if (stream := self._streams.get(number)) is not None:
            stream.heard_s = self._door.now()

    def pause(self) -> None:
        """Triton reads more slowly than the client writes."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """It has caught up."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if len(self._preface) < len(http2.PREFACE):
            data = self._take_preface(data)
        if not self._upstream.connected:
            self._early += data
            if len(self._preface) == len(http2.PREFACE):
                self._transport.pause_reading()
            return
        passed: list[bytes | memoryview] = []
        for part in self._frames.feed(data):
            num_passed = len(passed)
            self._take(part, passed)
            if self._transport.is_closing():
                # What came before is known as a call, and Triton has to get it.
                del passed[num_passed:]
                break
        if passed:
            self._upstream.write(passed)
        self._set_deadline()

    def _take_preface(self, data: bytes) -> bytes:
        missing = len(http2.PREFACE) - len(self._preface)
        self._preface += data[:missing]
        if not http2.PREFACE.startswith(self._preface):
            self._transport.write(WRONG_PORT)
            self._transport.close()
            return b""
        if len(self._preface) == len(http2.PREFACE):
            # What is no HTTP/2 never reaches Triton.
            self._connecting = self._loop.create_task(self._connect())
        return data[missing:]

    def _take(self, part: Part, passed: list[bytes | memoryview]) -> None:
        frame = part.frame
        if part.first:
            self._begin(frame)
        if frame.kind in _CONTROL:
            self._take_control(part, passed)
        if self._transport.is_closing():
            return
        if frame.kind in _BLOCKS:
            self._block += part.payload
            if part.last and frame.flags & http2.END_HEADERS:
                self._pass_headers(frame.stream, passed)
        stream = self._streams.get(frame.stream)
        if frame.kind == http2.DATA and not self._dropping:
            self._pass_data(part, stream, passed)
        if part.last and stream is not None and not self._transport.is_closing():
            self._end(frame, stream, passed)

    def _take_control(self, part: Part, passed: list[bytes | memoryview]) -> None:
        """Passes whole frames that Triton takes: at others it ends the connection, and all that it works on."""
        frame = part.frame
        self._control = (b"" if part.first else self._control) + part.payload
        if not part.last:
            return
        if not is_valid(frame, self._control):
            self.close(http2.PROTOCOL_ERROR)
        elif frame.kind == http2.PING:
            if frame.flags & http2.ACK:
                passed += [frame.raw, self._control]
            elif self._unread_s is None:
                # Triton ends a connection after three within minutes. Who does not read gets no answer.
                self._upstream.tell_client(http2.pong(self._control))
        elif frame.kind == http2.SETTINGS and frame.flags & http2.ACK and not self._upstream.windows.confirm():
            # It confirms nothing that Triton has sent.
            return
        elif not self._dropping and self._is_known(frame.stream):
            passed += [frame.raw, self._control]

    def _is_known(self, number: int) -> bool:
        """Whether Triton has such a call, or it is the connection; clients say more of one that has ended."""
        stream = self._streams.get(number)
        return number == 0 or (stream is not None and stream.known)

    def _pass_data(self, part: Part, stream: Stream | None, passed: list[bytes | memoryview]) -> None:
        """In a frame of its own, so that nothing of a message is passed on that ends a call and is refused."""
        frame = part.frame
        if stream is None or not stream.known:
            # Never opened, or ended: Triton would count these bytes, and end the connection.
            self._give_back(len(part.payload))
            return
        if stream.refusal is None:
            self._scan(stream, part.payload)
        if stream.refusal is not None:
            self._give_back(len(part.payload))
        elif not self._upstream.windows.take(frame.stream, len(part.payload)):
            self.close(http2.FLOW_CONTROL_ERROR)
        elif part.payload or part.last:
            flags = frame.flags if part.last else frame.flags & ~http2.END_STREAM
            passed += http2.data(frame.stream, part.payload, flags)
            stream.has_message = stream.message_is_whole

    def _give_back(self, num_bytes: int) -> None:
        """Triton does not see these bytes: the client may send as many others on the connection."""
        self._dropped_bytes += num_bytes
        if self._dropped_bytes and self._unread_s is None:
            self._upstream.tell_client(http2.more_window(0, min(self._dropped_bytes, http2.MAX_WINDOW)))
            self._dropped_bytes = 0

    def _begin(self, frame: Frame) -> None:
        refused = frame.stream in self._refused
        stream = self._streams.get(frame.stream)
        given_up = frame.kind == http2.RST_STREAM and stream is not None and stream.is_worked_on
        self._dropping = refused or given_up
        if refused and frame.kind == http2.DATA:
            self._give_back(frame.length)
        if frame.kind in _CONTROL and frame.length > MAX_CONTROL_BYTES:
            self.close(http2.PROTOCOL_ERROR)
        if frame.kind == http2.DATA and frame.flags & http2.PADDED:
            self.close(http2.ENHANCE_YOUR_CALM)
        if frame.kind == http2.HEADERS:
            self._block, self._block_flags = b"", frame.flags
        if frame.kind in _BLOCKS and len(self._block) + frame.length > self._door.limits.header_bytes:
            self.close(http2.ENHANCE_YOUR_CALM)
        if frame.kind in (http2.DATA, http2.HEADERS) and stream is not None and stream.whole and not refused:
            # After its end.
            self.close(http2.ENHANCE_YOUR_CALM)
        if frame.kind == http2.HEADERS and stream is None and not refused:
            stream = self._streams[frame.stream] = Stream(self._door.now())
            stream.refusal = self._door.begin_call(len(self._streams))

    def _pass_headers(self, number: int, passed: list[bytes | memoryview]) -> None:
        stream = self._streams.get(number)
        try:
            headers = self._headers.decode(self._block, self._block_flags)
        except ValueError:
            self.close(http2.ENHANCE_YOUR_CALM)
            return
        if number in self._refused:
            return
        ends = self._block_flags & http2.END_STREAM
        if stream is None or (stream.known and not ends):
            self.close(http2.ENHANCE_YOUR_CALM)
            return
        if stream.known:
            # After a message; gRPC has none there: the call ends without them.
            passed.append(http2.data_header(number, 0, http2.END_STREAM))
            return
        stream.refusal = stream.refusal or check_method(headers)
        if stream.refusal is None:
            stream.known, stream.call = True, self._door.given_up.next_call()
            self._upstream.windows.open(number)
            passed.append(http2.headers(number, with_call(headers, stream.call), ends))

    def _scan(self, stream: Stream, payload: memoryview) -> None:
        try:
            self._door.hold(len(payload))
            stream.received += len(payload)
            stream.scan(payload, self._door.limits)
        except Refusal as refusal:
            if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE:
                refusal = Refusal(UNAVAILABLE, str(refusal))
            stream.refusal = refusal

    def _end(self, frame: Frame, stream: Stream, passed: list[bytes | memoryview]) -> None:
        if frame.kind == http2.RST_STREAM:
            if stream.is_worked_on:
                # It counts as under way until Triton is through with it.
                if not stream.given_up:
                    passed.append(self._let_finish(frame.stream, stream))
                stream.given_up = True
                return
            self.forget(frame.stream)
            self._resets += 1
            if self._resets > RESETS + self._finished:
                self.close(http2.ENHANCE_YOUR_CALM)
            return
        if frame.kind in (http2.DATA, http2.HEADERS) and frame.flags & http2.END_STREAM:
            stream.whole, stream.heard_s = True, self._door.now()
        in_block = frame.kind in _BLOCKS and not frame.flags & http2.END_HEADERS
        if stream.refusal is not None and stream.has_message:
            # A second message: the first one may be computed, so that its call can't be ended. It is answered.
            passed.append(http2.data_header(frame.stream, 0, http2.END_STREAM))
            stream.refusal, stream.whole, stream.heard_s = None, True, self._door.now()
            self._drop_rest(frame.stream)
        elif stream.refusal is not None and not in_block:
            if stream.known:
                passed.append(http2.reset(frame.stream, http2.CANCEL))
            error = http2.grpc_error(frame.stream, stream.refusal.status, str(stream.refusal))
            self._upstream.tell_client(error)
            self.forget(frame.stream)
            self._drop_rest(frame.stream)

    def _drop_rest(self, number: int) -> None:
        """Passes nothing more of a call on."""
        self._refused[number] = None
        if len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]

    def forget(self, number: int, *, finished: bool = False) -> None:
        """A call has ended."""
        stream = self._streams.pop(number, None)
        self._upstream.windows.close(number)
        if stream is not None:
            self._finished += finished
            self._door.release(stream.received)
            self._door.end_call()
            if self._transport.is_closing() and not self._streams:
                self._upstream.close()
            else:
                self._set_deadline()

    def write(self, parts: list[bytes | memoryview]) -> None:
        """Sends to the client."""
        if not self._transport.is_closing():
            self._transport.writelines(parts)

    def _set_deadline(self) -> None:
        if self._transport.is_closing():
            # That has its own.
            return
        limits = self._door.limits
        due = [stream.deadline_s(limits) for stream in self._streams.values()]
        if self._unread_s is not None:
            due.append(self._unread_s)
        self.deadline_s = min(due, default=self._door.now() + limits.idle_s)
