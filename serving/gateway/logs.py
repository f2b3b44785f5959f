"""Lines of a gateway's log on standard error: for people, or as JSON for programs that collect them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime

PROGRAM = "protoclip gateway"
MAX_TEXT = 256


class Log:
    """One line for each request and event. No key, body or answer is logged."""

    def __init__(self, as_json: bool, write: Callable[[str], None] | None = None) -> None:
        """`write` takes each line, by default to standard error."""
        self._as_json = as_json
        self._write_line = write or _to_standard_error

    def event(self, message: str) -> None:
        """A line that belongs to no request."""
        self._write({"message": message})

    def request(self, facts: dict[str, str | int | float]) -> None:
        """A line for a request: status, method, path and whatever else is known."""
        self._write({"message": "request", **facts})

    def _write(self, facts: dict[str, str | int | float]) -> None:
        shown = {
            name: cut(value) if isinstance(value, str) and len(value) > MAX_TEXT else value
            for name, value in facts.items()
            if value != ""
        }
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self._as_json:
            line = json.dumps({"time": time, "program": PROGRAM, **shown})
        elif shown.get("message") == "request":
            # In JSON's escapes: a path with a line's end would forge a line.
            values = (f"{name}={json.dumps(value)}" for name, value in shown.items() if name != "message")
            line = f"{time} {' '.join(values)}"
        else:
            line = f"{time} {json.dumps(shown['message'], ensure_ascii=False)[1:-1]}"
        self._write_line(line)


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def cut(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
