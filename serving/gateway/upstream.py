"""Requests passed on over HTTP, whole and within bounds. Only to addresses that the operator has set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from .errors import Refused

_CONNECT_S = 5.0
_MOST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class UpstreamAnswer:
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Upstream:
    """A pool of connections, made when it is first used."""

    def __init__(self, connections: int = 64) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def pass_on(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> UpstreamAnswer:
        """The answer of `url`, whatever its status. Redirects are not followed, and nothing is decompressed.

        An idle connection that the other side had closed is tried once more: what is asked changes nothing there.

        Raises:
            Refused: 503 where nobody answers, 504 where that takes longer than `timeout_s`, 502 for what is no
                HTTP, or too long.
        """
        try:
            try:
                return await self._ask(method, url, body, headers, timeout_s)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                return await self._ask(method, url, body, headers, timeout_s)
        except TimeoutError as error:
            raise Refused(504, "timeout", "no answer in time: send less at once, or come again") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            message = "the server is away or starting: come again"
            raise Refused(503, "unavailable", message, retry_after_s=2, detail=str(error)) from error
        except aiohttp.ClientError as error:
            raise Refused(
                502, "bad_answer", "the server gave an answer that is none", detail=str(error)
            ) from error

    async def close(self) -> None:
        """Ends all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> UpstreamAnswer:
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=_CONNECT_S)
        request = self._pool().request(
            method,
            url,
            data=body if method == "POST" else None,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
        )
        async with request as response:
            parts: list[bytes] = []
            size = 0
            async for part in response.content.iter_any():
                size += len(part)
                if size > _MOST_BYTES:
                    raise Refused(502, "bad_answer", "the server gave an answer that is too long")
                parts.append(part)
            found = {name.lower(): value for name, value in response.headers.items()}
            return UpstreamAnswer(response.status, found, b"".join(parts))

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # Proxies of the environment are not for a server that stands beside.
                trust_env=False,
            )
        return self._session
