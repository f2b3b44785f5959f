"""Interrupts the demo in every phase, and shows that it goes on where it stood.

    make interruptions

One folder a signal: the demo is started, interrupted in its first phase, started again, interrupted in the next
one, and so on, and at last left alone. After each signal the command must be gone in `EXIT_S`, its server as long
after that, and nothing of it may be left in /dev/shm or, after a Ctrl-C, in the temporary folder. The start that
follows must come past the phase that was interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired

from protoclip.contract.files import write_text

EXIT_S = 10.0
GIVE_UP_S = 60.0
MARK = "PROTOCLIP_INTERRUPTIONS"
# A phase's name, what standard error says when it has begun, and the seconds until the signal.
PHASES = (
    ("train", "train ──", 0.0),
    ("train, in its steps", "train ──", 7.0),
    ("evaluate", "evaluate ──", 3.0),
    ("export", "export and verify ──", 2.0),
    ("serve, starting", "serve, embed, classify, search ──", 1.0),
    ("serve, answering", "Triton answers at", 0.3),
)


@dataclass
class Demo:
    """A running `protoclip demo`, and what it has said on standard error."""

    process: Popen[str]
    mark: str
    said: list[str] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def listen(self) -> None:
        """Collects standard error until its end."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.said.append(line)
                self._news.notify_all()

    def wait_for(self, text: str, timeout_s: float) -> None:
        """Returns when a line with `text` was said; raises RuntimeError where the demo ended before."""
        with self._news:
            found = self._news.wait_for(lambda: self._has(text) or self.process.poll() is not None, timeout_s)
        if not found or not self._has(text):
            raise RuntimeError(f"the demo never said {text!r}: {''.join(self.said)[-2000:]}")

    def _has(self, text: str) -> bool:
        return any(text in line for line in self.said)

    def interrupt(self, number: signal.Signals) -> float:
        """Sends the signal; returns the seconds until the command was gone."""
        started = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(GIVE_UP_S)
        except TimeoutExpired:
            said = "".join(self.said)[-2000:]
            raise RuntimeError(f"still running {GIVE_UP_S} s after {number.name}: {said}") from None
        return time.monotonic() - started


@contextmanager
def demo(out: Path, temporary: Path, steps: int) -> Iterator[Demo]:
    """`protoclip demo --out OUT`, with temporary files in a folder of its own; killed with the block."""
    temporary.mkdir(parents=True, exist_ok=True)
    mark = str(temporary)
    environment = {**os.environ, MARK: mark, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    program = Path(sys.executable).with_name("protoclip")
    command = [str(program), "demo", "--out", str(out), "--steps", str(steps)]
    process = Popen(command, env=environment, stdout=DEVNULL, stderr=PIPE, text=True)
    running = Demo(process, mark)
    listener = threading.Thread(target=running.listen, daemon=True)
    listener.start()
    try:
        yield running
    finally:
        process.kill()
        process.wait()
        listener.join(GIVE_UP_S)
        assert process.stderr is not None
        process.stderr.close()


def lingering(mark: str) -> list[str]:
    """Command lines of the processes that were started with `mark` in their environment and still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def wait_until_gone(mark: str) -> float:
    """Seconds until no process of the demo is left; raises RuntimeError after `GIVE_UP_S`."""
    started = time.monotonic()
    while left := lingering(mark):
        if time.monotonic() - started > GIVE_UP_S:
            raise RuntimeError(f"still running: {left}")
        time.sleep(0.05)
    return time.monotonic() - started


def left_in_shared_memory(servers: list[str]) -> list[str]:
    """Regions in /dev/shm whose names begin with that of one of the servers' temporary folders."""
    return [region.name for name in servers for region in Path("/dev/shm").glob(f"{name}*")]


def left_in_folder(temporary: Path) -> list[str]:
    """What lies in the folder of temporary files, the caches of torch and ONNX Runtime apart."""
    return [path.name for path in temporary.iterdir() if not path.name.startswith(("torchinductor_", ".ses"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the demos")
    parser.add_argument("--result", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    rows, weights = [], {}
    for number in (signal.SIGINT, signal.SIGKILL):
        out = arguments.out / number.name.lower()
        rows += [row(out, number, *phase, arguments.steps, limit_s=EXIT_S) for phase in PHASES]
        rows.append(finish(out, number, arguments.steps))
        weights[number.name] = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()[:12]
    write_text(arguments.result, result(rows, weights, arguments.steps))


def row(
    out: Path,
    number: signal.Signals,
    phase: str,
    text: str,
    delay_s: float,
    steps: int,
    limit_s: float = GIVE_UP_S,
) -> str:
    """Interrupts one phase; returns its line of the table. RuntimeError: it ended later than `limit_s`."""
    temporary = out.parent / f"{out.name}_tmp"
    with demo(out, temporary, steps) as running:
        running.wait_for(text, 300)
        time.sleep(delay_s)
        servers = [path.name for path in temporary.glob("protoclip-triton-*")]
        seconds = running.interrupt(number)
        gone = wait_until_gone(running.mark)
        code = running.process.returncode
    shared, files = left_in_shared_memory(servers), left_in_folder(temporary)
    print(number.name, phase, code, f"{seconds:.1f} s", shared, files, "".join(running.said)[-300:], flush=True)
    if number is signal.SIGKILL:
        start_a_server_again(temporary)
    left = left_in_shared_memory(servers) + ([] if number is signal.SIGKILL else files)
    if left:
        raise RuntimeError(f"left behind after {number.name} in {phase!r}: {left}")
    if max(seconds, gone) > limit_s:
        raise RuntimeError(f"{seconds:.1f} and {gone:.1f} s after {number.name} in {phase!r}: too late")
    return f"| {number.name} | {phase} | {code} | {seconds:.1f} | {gone:.1f} | {len(shared)} | {len(files)} |"


def start_a_server_again(temporary: Path) -> None:
    """Removes what a killed command's server had no time for, as the next start does before anything else."""
    from serving.triton.temporary_folder import TemporaryFolder

    before, tempfile.tempdir = tempfile.tempdir, str(temporary)
    try:
        TemporaryFolder().remove()
    finally:
        tempfile.tempdir = before


def finish(out: Path, number: signal.Signals, steps: int) -> str:
    """Lets the demo come to its end, which removes what killed ones left; returns its line of the table."""
    servers = [path.name for path in (out.parent / f"{out.name}_tmp").glob("protoclip-triton-*")]
    with demo(out, out.parent / f"{out.name}_tmp", steps) as running:
        started = time.monotonic()
        code = running.process.wait(600)
        seconds = time.monotonic() - started
        gone = wait_until_gone(running.mark)
    if code or not (out / "report.html").is_file():
        raise RuntimeError(f"the demo did not finish: {''.join(running.said)[-2000:]}")
    if left := left_in_shared_memory(servers):
        raise RuntimeError(f"left behind by the last start: {left}")
    files = len(left_in_folder(out.parent / f"{out.name}_tmp"))
    return f"| {number.name} | none: the last start | {code} | {seconds:.1f} | {gone:.1f} | 0 | {files} |"


def result(rows: list[str], weights: dict[str, str], steps: int) -> str:
    """The whole Markdown file."""
    head = (
        "| signal | phase | exit code | s until exit | s until its processes are gone | in /dev/shm | in TMPDIR |"
    )
    hashes = ", ".join(f"{name} {value}" for name, value in weights.items())
    return "\n".join(
        [
            "# The demo, interrupted",
            f"`make interruptions`: {steps} steps, {time.strftime('%B %Y')}, {os.cpu_count()} cores, "
            f"Python {platform.python_version()}, {platform.system()}. Each start went on in the folder that "
            "the one before left.",
            "",
            head,
            "|---" * 7 + "|",
            *rows,
            "",
            f"SHA-256 of the trained weights: {hashes}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
