"""`GET /healthz`: whether a picture and a text get a vector now. And which model an alias stands for, followed."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from protoclip.client import AsyncClient
from protoclip.contract.errors import ProtoclipError

from .errors import Refused, refused
from .logs import Log

PROBE_S = 8.0
FOLLOW_S = 10.0
"""How often the server is asked which model an alias stands for."""
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Health:
    """What is known of the server: the model that answered, or why none did."""

    model: str = ""
    fingerprint: str = ""
    verdict: str = ""
    refusal: Refused | None = None


class HealthCheck:
    """Asks for a real inference, at most once in `kept_s` seconds, however many want to know."""

    def __init__(self, client: AsyncClient, kept_s: float) -> None:
        self._client = client
        self._kept_s = kept_s
        self._lock = asyncio.Lock()
        self._last: tuple[float, Health] | None = None

    async def now(self) -> Health:
        """The last answer, or a new one."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] >= self._kept_s:
                self._last = (time.monotonic(), await self._ask())
            return self._last[1]

    async def _ask(self) -> Health:
        try:
            async with asyncio.timeout(PROBE_S):
                picture, text = await asyncio.gather(
                    self._client.embed_images(_picture(), timeout_s=PROBE_S),
                    self._client.embed_texts("ready", timeout_s=PROBE_S),
                )
                model = await self._client.model
        except (ProtoclipError, TimeoutError) as error:
            return Health(refusal=refused(error))
        if not all(abs(float(np.linalg.norm(vector)) - 1) <= _TOLERANCE for vector in (picture, text)):
            return Health(refusal=Refused(502, "bad_answer", "the model's vectors have another length than 1"))
        return Health(model.prefix, model.fingerprint, model.verdict)


async def follow_alias(client: AsyncClient, log: Log) -> None:
    """Uses the model that the server means now, for as long as the task runs; says so when that changes."""
    before: str | None = None
    fault = ""
    while True:
        try:
            model = await client.follow(timeout_s=FOLLOW_S)
        except ProtoclipError:
            # Away, or starting: requests say so.
            pass
        except Exception as error:  # noqa: BLE001 - or no alias would be followed any more, in silence
            said = f"which model is meant can't be asked: {type(error).__name__}: {error}"
            if said != fault:
                log.event(said)
            fault = said
        else:
            if before is not None and model.prefix != before:
                log.event(f"the model is {model.prefix} now, and was {before}")
            before, fault = model.prefix, ""
        await asyncio.sleep(FOLLOW_S)


def _picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (128, 128, 128)).save(stream, "PNG")
    return stream.getvalue()
