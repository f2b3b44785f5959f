"""What a page of the documentation shows, run: its blocks of shell and of Python, in their order.

Blocks marked `sh` and `python` run, any other is only shown. `protoclip` runs in this process, all Python of a
page in one namespace. `serve`, `gateway` and `ui` are started in processes of their own on free ports, and stopped
at the end: what follows on the page asks them, although it names the usual ports.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import forked_python
import pytest
from command_line import Outcome, Run
from forked_python import ForkedPython

DOCS = Path(__file__).parents[2] / "docs"
# Programs that run until they are stopped: where they listen by default, by the names of what they print as JSON.
USUAL = {
    "serve": {"http_url": "http://localhost:8000", "grpc_url": "grpc://localhost:8001"},
    "gateway": {"url": "http://localhost:8080"},
    "ui": {"url": "http://localhost:8090/"},
}
FREE_PORTS = {"serve": ("--http-port=0", "--grpc-port=0", "--metrics-port=0")}
_BLOCK = re.compile(r"^```(sh|python)\n(.+?)^```", re.MULTILINE | re.DOTALL)


@dataclass
class PageCode:
    """A page, and what running it left.

    Attributes:
        names: what the page's Python has defined.
        said: the commands in their order, without `protoclip`, with what they returned and printed.
        blocks: how many of each kind have run.
    """

    page: Path
    names: dict[str, object] = field(default_factory=dict)
    said: list[tuple[str, Outcome]] = field(default_factory=list)
    blocks: dict[str, int] = field(default_factory=lambda: {"sh": 0, "python": 0})

    def outcome(self, command: str) -> Outcome:
        """Of the last command that begins with these words."""
        return [outcome for line, outcome in self.said if line.startswith(command)][-1]


def run_page(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch, *, more: Mapping[str, Sequence[object]] | None = None
) -> PageCode:
    """Runs `docs/NAME` in the current folder; fails at the first command that does not end with 0.

    Args:
        run: of `command_line.runner`.
        more: what is added to commands that begin with these words, so that a test does with less.
    """
    code = PageCode(DOCS / name)
    with _servers(monkeypatch) as servers:
        for kind, text in _BLOCK.findall(code.page.read_text(encoding="utf-8")):
            code.blocks[kind] += 1
            if kind == "python":
                text = servers.with_their_addresses(text)
                exec(compile(text, str(code.page), "exec"), code.names)  # noqa: S102 - the page is ours
                continue
            for line in commands(text):
                _command(servers.with_their_addresses(line), code, run, more or {}, servers, monkeypatch)
    return code


def commands(text: str) -> Iterator[str]:
    """Lines of a block of shell that are commands, each whole."""
    for line in text.replace("\\\n", " ").splitlines():
        if shlex.split(line, comments=True):
            yield line


def _command(
    line: str,
    code: PageCode,
    run: Run,
    more: Mapping[str, Sequence[object]],
    servers: _Servers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program, *words = shlex.split(line, comments=True)
    if program == "export":
        monkeypatch.setenv(*words[0].split("=", 1))
        return
    assert program == "protoclip", f"{code.page.name}: a test runs protoclip and export alone: {line}"
    for beginning, added in more.items():
        if words[: len(beginning.split())] == beginning.split():
            words += map(str, added)
    if words[0] in USUAL:
        servers.start(words)
        return
    # Ranks are processes of their own, which a forked launcher forks.
    outcome = in_a_process(words) if "--ranks" in words else run(*words)
    code.said.append((" ".join(words), outcome))
    assert outcome.code == 0, (line, outcome.out, outcome.err)


def in_a_process(words: Sequence[str]) -> Outcome:
    done = forked_python.run([sys.executable, "-m", "protoclip", *words])
    return Outcome(done.returncode, done.stdout, done.stderr)


def answer_of(url: str) -> str:
    """What a server of this machine answers, whatever proxy the environment names; raises URLError from 400 on."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=60) as answer:
        return str(answer.read().decode())


class _Servers:
    """The servers that a page has started; of several the last one is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processes: list[ForkedPython] = []
        self._monkeypatch = monkeypatch
        self._addresses: dict[str, str] = {}

    def start(self, words: list[str]) -> None:
        """Returns when it answers."""
        ports = FREE_PORTS.get(words[0], ("--port=0",))
        process = ForkedPython(
            [sys.executable, "-m", "protoclip", *words, *ports, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        facts = json.loads(line)
        self._addresses |= {usual: facts[name] for name, usual in USUAL[words[0]].items()}
        if words[0] == "serve":
            self._monkeypatch.setenv("PROTOCLIP_URL", facts["grpc_url"])
        else:
            answer_of(facts["url"] if words[0] == "ui" else f"{facts['url']}/healthz")

    def with_their_addresses(self, text: str) -> str:
        for usual, address in self._addresses.items():
            text = text.replace(usual, address)
        return text


@contextmanager
def _servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Servers]:
    servers = _Servers(monkeypatch)
    try:
        yield servers
    finally:
        for process in servers.processes:
            process.terminate()
            process.communicate(timeout=60)
