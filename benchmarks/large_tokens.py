"""Time and memory of the tokens of made-up captions: made and written, then found again.

    python benchmarks/large_tokens.py --pairs 1000000

Each phase is a process of its own; captions are made when they are asked for, so that nothing else of the data is
in memory. Memory is the peak over the process and its children, as the sum of their proportional shares (PSS).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from protoclip.contract.text import Tokenizer
from protoclip.data.token_cache import load_tokens
from protoclip.data.token_table import TokenTable
from protoclip.encoders.tokenizer_lookup import tokenizer_for

MODEL, SEED = "ViT-B-32", 0
STARTS, ENDS = ("ba", "ko", "ri", "té", "mun", "sel", "dra"), ("n", "to", "lish", "ver", "st")
WORDS = [f"{start}{end}" for start in STARTS for end in ENDS]


class Captions(Sequence[tuple[str]]):
    """[N] different captions of 5 to 14 words, each made when it is asked for."""

    def __init__(self, count: int) -> None:
        self._count = count
        draw = np.random.default_rng(SEED)
        self._lengths = draw.integers(4, 14, count, dtype=np.uint8)
        self._starts = draw.integers(0, 2**16, count, dtype=np.uint16)
        self._order = draw.integers(0, len(WORDS), 2**16 + 16).tolist()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[str]:  # type: ignore[override]
        if not 0 <= index < self._count:
            raise IndexError(index)
        start = int(self._starts[index])
        words = [WORDS[place] for place in self._order[start : start + int(self._lengths[index])]]
        return (f"{' '.join(words)} {index}",)


class Memory:
    """The largest sum of PSS of this process and its children, looked at every half second."""

    def __init__(self) -> None:
        self.peak_bytes, self._ended = 0, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.peak_bytes = max(self.peak_bytes, sum(map(pss, family(os.getpid()))))

    def end(self) -> int:
        self._ended.set()
        return max(self.peak_bytes, sum(map(pss, family(os.getpid()))))


def family(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)


def pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def phase(count: int, folder: Path) -> None:
    captions, tokenizer = Captions(count), Tokenizer(*tokenizer_for(MODEL))
    memory, started = Memory(), time.monotonic()
    tokens = load_tokens(captions, tokenizer, folder, lambda items, total: items)
    seconds = time.monotonic() - started
    assert isinstance(tokens, TokenTable)
    started = time.monotonic()
    draw = np.random.default_rng(1)
    for _ in range(100):
        tokens.chosen(draw.integers(0, count, 512), draw.random(512))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    facts = {
        "seconds": seconds,
        "cpu_seconds": sum(own.ru_utime + own.ru_stime for own in used),
        "peak_mib": memory.end() / 2**20,
        "ms_per_batch_of_512": (time.monotonic() - started) * 10,
    }
    print(json.dumps(facts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--cache", type=Path, help="folder; by default a temporary one")
    parser.add_argument("--phase", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    if arguments.phase:
        phase(arguments.pairs, arguments.cache)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.cache or Path(temporary)
        for name in ("made and written", "found again"):
            command = [
                sys.executable,
                __file__,
                "--phase",
                "--pairs",
                str(arguments.pairs),
                "--cache",
                str(folder),
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(name, done.stdout.strip().splitlines()[-1], flush=True)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"on disk: {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
