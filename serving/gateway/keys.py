"""API keys: read from a file, held as digests, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Collection
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Scope

from protoclip.contract.errors import ConfigError

from .errors import Refused

MIN_KEY = 16
LOOK_S = 1.0
"""How often the file is looked at."""
_KEY = re.compile(rf"[\x21-\x7e]{{{MIN_KEY},512}}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_State = tuple[int, int, int]


class Keys:
    """Who may ask. It holds digests alone: no dump of memory, log or repr shows a key.

    The file is read again when it was replaced; while it can't be read, those that were there before count on.
    """

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        """Reads the file; raises ConfigError as `read_keys`. `report` takes a line for every later reading."""
        self._path = path
        self._report = report
        self._state = _state(path)
        self._digests = read_keys(path)
        self._looked_s = time.monotonic()

    def who(self, headers: Headers) -> str | None:
        """The name that goes with a request's key; None where there is none, or an unknown one.

        The key is `Authorization: Bearer KEY`, `X-API-Key: KEY`, or the password of `Authorization: Basic`, which
        is what browsers ask for.
        """
        self._look()
        shown = _shown_key(headers)
        if shown is None:
            return None
        digest = hashlib.sha256(shown).digest()
        found = None
        # All of them, whichever fits, so that the time says nothing.
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        state = _state(self._path)
        if state == self._state:
            return
        self._state = state
        try:
            self._digests = read_keys(self._path)
        except ConfigError as error:
            self._report(f"the keys stay as they were: {error}")
        else:
            self._report(f"{len(self._digests)} keys were read anew")


class KeyRule:
    """401 for every request without a known key, but for paths that are open to everybody."""

    def __init__(self, keys: Keys, open_paths: Collection[str]) -> None:
        self._keys = keys
        self._open_paths = frozenset(open_paths)

    def __call__(self, scope: Scope) -> Refused | None:
        """Why the request may not go on; where it may, whose key it has is noted in `scope`."""
        if scope["path"] in self._open_paths:
            return None
        headers = Headers(scope=scope)
        name = self._keys.who(headers)
        if name is not None:
            scope["client_name"] = name
            return None
        # A browser asks its user by Basic; a program should not see that as the way.
        scheme = "Basic" if "text/html" in headers.get("accept", "") else "Bearer"
        message = "a key is needed: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        return Refused(401, "unauthorized", message, headers={"WWW-Authenticate": f'{scheme} realm="protoclip"'})


def read_keys(path: Path) -> dict[str, bytes]:
    """SHA-256 of each key of a file by its name: `name key` a line; empty lines and # comments don't count.

    Raises:
        ConfigError: it can't be read, has no key, a short one, or a name or a key twice. No message shows a key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ConfigError(f"keys_file={path}: can't be read: {reason}") from error
    digests: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, key = (part.strip() for part in line.strip().partition(" "))
        if not _NAME.fullmatch(name) or not _KEY.fullmatch(key):
            raise ConfigError(
                f"keys_file={path}: line {number} is no `name key` with a key of {MIN_KEY} to 512 ASCII characters"
            )
        digest = hashlib.sha256(key.encode()).digest()
        if name in digests or digest in digests.values():
            raise ConfigError(f"keys_file={path}: line {number} has a name or a key that stands there before")
        digests[name] = digest
    if not digests:
        raise ConfigError(f"keys_file={path}: holds no key: give `name key` a line, or leave the option out")
    return digests


def _shown_key(headers: Headers) -> bytes | None:
    own = headers.get("x-api-key")
    if own is not None:
        return own.strip().encode("latin-1")
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return None
    return None


def _state(path: Path) -> _State | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
