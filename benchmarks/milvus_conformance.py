"""The suite of all stores on Milvus Lite and on a standalone Milvus server, and the server killed under a writer.

    make milvus-conformance

The server is of the package `milvus`, in an environment of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from protoclip.contract.errors import ProtoclipError
from protoclip.contract.files import write_text
from protoclip.search import create_index, open_index

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from milvus_server import MilvusServer  # noqa: E402

FINGERPRINT, DIM, BATCH = "0123456789abcdef", 8, 20
WRITES_BEFORE_S, READY_S = 6.0, 60.0


@dataclass(frozen=True)
class Row:
    """Of one file of tests on one kind of place."""

    store: str
    file: str
    passed: int
    failed: int
    skipped: Sequence[str]
    took_s: float


def run_files(files: Sequence[Path], store: str, name: str, folder: Path, at_once: int) -> list[Row]:
    """Runs several, some at once."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda file: run_file(file, store, name, folder), files))


def run_file(file: Path, store: str, name: str, folder: Path) -> Row:
    """Runs one file of the suite, in a process of its own."""
    report = folder / f"{name}_{file.stem}.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "-k",
        "milvus",
        f"--junitxml={report}",
        file,
    ]
    start = time.perf_counter()
    ended = subprocess.run(
        command, env={**os.environ, "PROTOCLIP_TEST_STORES": store}, cwd=ROOT, capture_output=True, text=True
    )
    if ended.returncode not in (0, 5):
        print(ended.stdout[-3000:], ended.stderr[-1000:], sep="\n")
    cases = list(ElementTree.parse(report).iter("testcase"))
    found = Counter("failed" if _has(case, "failure", "error") else "passed" for case in cases)
    skipped = [one.get("message", "") for case in cases if (one := case.find("skipped")) is not None]
    return Row(
        name,
        file.stem,
        found["passed"] - len(skipped),
        found["failed"],
        tuple(dict.fromkeys(skipped)),
        time.perf_counter() - start,
    )


def _has(case: ElementTree.Element, *names: str) -> bool:
    return any(case.find(name) is not None for name in names)


def killed_server(server: MilvusServer) -> str:
    """What is there of an acknowledged writer's entries after its server was killed and started again."""
    acknowledged: list[int] = []
    ended: list[str] = []
    with create_index(f"{server.address}/killed", FINGERPRINT, DIM, exact=True) as store:

        def write() -> None:
            number = 0
            try:
                while True:
                    rows = np.random.default_rng(number).standard_normal((BATCH, DIM))
                    ids = [f"{number} {row}" for row in range(BATCH)]
                    store.upsert(rows, ids, [{"batch": number}] * BATCH)
                    acknowledged.append(number)
                    number += 1
            except ProtoclipError as error:
                ended.append(type(error).__name__)

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(WRITES_BEFORE_S)
        server.stop(killed=True)
        server.start()
        writer.join()
    found = _read(f"{server.address}/killed")
    lost = sum(found.get(f"{number} {row}") != number for number in acknowledged for row in range(BATCH))
    return (
        f"The server was killed (SIGKILL) under a writer that had {len(acknowledged)} calls of {BATCH} entries "
        f"acknowledged, which ended with {ended[0] if ended else 'no error'}; started again on its data, it "
        f"lacked {lost} of {BATCH * len(acknowledged)} acknowledged entries."
    )


def _read(address: str) -> dict[str, int]:
    end = time.monotonic() + READY_S
    while True:
        try:
            with open_index(address) as store:
                return {entry.id: entry.metadata["batch"] for entry in store.iterate()}
        except ProtoclipError:
            # It is loading its collections.
            if time.monotonic() > end:
                raise
            time.sleep(1)


def page(rows: Sequence[Row], killed: str) -> str:
    """The result."""
    table = ["| store | file | passed | failed | skipped | seconds |", "|---|---|---:|---:|---:|---:|"]
    table += [
        f"| {row.store} | `{row.file}` | {row.passed} | {row.failed} | {len(row.skipped)} | {row.took_s:.0f} |"
        for row in rows
    ]
    reasons = dict.fromkeys(f"{row.store}: {reason}" for row in rows for reason in row.skipped)
    return "\n".join(
        [
            "# The suite of all stores on Milvus",
            "",
            f"`make milvus-conformance`: {time.strftime('%B %Y')}, Python {platform.python_version()}, "
            f"{platform.machine()}, pymilvus {version('pymilvus')}, milvus-lite {version('milvus-lite')}, and the "
            "standalone server of the package milvus 2.3.5. The machine was in use: seconds are no measurement.",
            "",
            *table,
            "",
            *(f"- Skipped on {reason}" for reason in reasons),
            "",
            killed,
            "",
        ]
    )


def main() -> int:
    """Runs both, writes the page, and fails where a test did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path, help="of the environment with the package milvus")
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    files = sorted((ROOT / "tests" / "search" / "stores").glob("test_*.py"))
    engines = [file for file in files if "engine:" in file.read_text(encoding="utf-8")]
    alone = next(file for file in files if file.stem == "test_milvus")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        lite = pool.submit(run_files, (*engines, alone), "milvus_lite", "Milvus Lite", Path(folder), at_once=2)
        with MilvusServer(arguments.python) as server:
            killed = killed_server(server)
            print(killed, flush=True)
            # Most of a call is waiting until the server shows what was written.
            rows = run_files(engines, server.address, "server", Path(folder), at_once=len(engines))
        rows = [*lite.result(), *rows]
    found = page(rows, killed)
    print(found)
    if arguments.result is not None:
        write_text(arguments.result, found)
    return 1 if any(row.failed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
