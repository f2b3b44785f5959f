"""What happens to the server of `served_soak.py` meanwhile, and how much memory it takes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from served_process import Served
from soak_inputs import Inputs

SAMPLE_S = 2.0
SERVE, GUARD, TRITON = "protoclip serve", "guard", "Triton and its workers"
MEMORY = (SERVE, GUARD, TRITON)
REGIONS, REGION_BYTES = "regions in /dev/shm", "MB in /dev/shm"
_SHM = Path("/dev/shm")


@dataclass
class Events:
    """What was done to the server, each with the seconds since the beginning, and samples of what it takes.

    Attributes:
        samples: PSS of processes and size of regions in MB, and the number of these; those of Triton only while
            it runs.
    """

    kills: list[tuple[float, str]] = field(default_factory=list)
    switches: list[tuple[float, str]] = field(default_factory=list)
    failed_switches: list[str] = field(default_factory=list)
    disconnects: int = 0
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


class Watch:
    """Threads that act on the server at their times, for the length of a `with` block; all times in seconds."""

    def __init__(self, served: Served, events: Events) -> None:
        self._served, self._events = served, events
        self._began_s = time.monotonic()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self.error: BaseException | None = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def every(self, seconds: float, act: Callable[[], object]) -> None:
        """Calls `act` so often, the first time after `seconds`, in a thread of its own."""

        def loop() -> None:
            due_s = self._began_s + seconds
            while not self._end.wait(max(0.0, due_s - time.monotonic())):
                try:
                    act()
                except BaseException as error:  # noqa: BLE001 - main looks at it
                    self.error = error
                    return
                due_s = max(due_s + seconds, time.monotonic())

        self._threads.append(threading.Thread(target=loop))
        self._threads[-1].start()

    def now_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began_s

    def sample(self) -> None:
        """Adds to the samples."""
        parts = processes(self._served.process.pid)
        found: dict[str, float] = {part: sum(map(_pss_mb, pids)) for part, pids in parts.items() if pids}
        if prefix := _region_prefix(parts[TRITON]):
            sizes = [path.stat().st_size for path in _SHM.glob(f"{prefix}*") if path.exists()]
            found |= {REGIONS: len(sizes), REGION_BYTES: sum(sizes) / 1e6}
        for what, value in found.items():
            self._events.samples.setdefault(what, []).append((self.now_s(), value))

    def kill_worker(self, draw: random.Random) -> None:
        """SIGKILL to one of Triton's Python workers."""
        workers = [pid for pid in processes(self._served.process.pid)[TRITON] if "backend_stub" in _command(pid)]
        if workers:
            victim = draw.choice(sorted(workers))
            model = next(
                (word for word in _command(victim).split("\0") if "_encoder" in word or "_pre" in word), ""
            )
            os.kill(victim, signal.SIGKILL)
            self._events.kills.append((self.now_s(), Path(model).parts[-3] if model.count("/") > 2 else model))

    def leave(self, draw: random.Random, inputs: Inputs) -> None:
        """A client that goes away: within the head, within the body, before the answer; over both protocols."""
        picture = inputs.good["image"][draw.randrange(len(inputs.good["image"]))]
        assert isinstance(picture, bytes)
        url = urlsplit(draw.choice([self._served.http_url, self._served.grpc_url]))
        sent = _http_request(picture, self._served.models["image"])
        if url.scheme == "grpc":
            sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, b"") + _frame(1, 1, b"\x82") + sent
        sent = draw.choice([sent, sent[: draw.randrange(1, len(sent))], sent[:40]])
        with contextlib.suppress(OSError), socket.create_connection((url.hostname, url.port), timeout=5) as leaver:
            leaver.sendall(sent)
            time.sleep(draw.choice([0.0, 0.002, 0.05]))
            if draw.random() < 0.5:
                # The connection is reset, not ended.
                leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._events.disconnects += 1


def deploy(served: Served, arguments: Sequence[str]) -> dict[str, Any]:
    """`protoclip deploy`; its answer.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    command = [sys.executable, "-m", "protoclip", "deploy", *arguments, "--url", served.grpc_url, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(done.returncode))
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def processes(serve: int) -> dict[str, list[int]]:
    """Living processes of `protoclip serve`, by part."""
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = file.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(file.parent.name)] = int(fields[1])
    parts: dict[str, list[int]] = {SERVE: [serve] if serve in parents else [], GUARD: [], TRITON: []}
    for pid in parents:
        line, part = pid, GUARD
        while line in parents and line != serve:
            part = TRITON if "tritonserver" in _command(line) else part
            line = parents[line]
        if line == serve and pid != serve:
            parts[part].append(pid)
    return parts


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _pss_mb(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1e3
    return 0.0


def _region_prefix(pids: Sequence[int]) -> str:
    """Of the names of Triton's regions, from its command line."""
    name = "shm-region-prefix-name="
    for pid in pids:
        for word in _command(pid).split("\0"):
            if name in word:
                return word.partition(name)[2]
    return ""


def _http_request(picture: bytes, model: str) -> bytes:
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: soak\r\nInference-Header-Content-Length: 0\r\n"
    return head.encode() + f"Content-Length: {len(picture)}\r\n\r\n".encode() + picture


def _frame(kind: int, stream: int, body: bytes) -> bytes:
    """Of HTTP/2, without flags."""
    return struct.pack(">I", len(body))[1:] + bytes([kind, 0]) + struct.pack(">I", stream) + body
