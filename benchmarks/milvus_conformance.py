"""The suite of all stores against a real Milvus server, on the loopback, which is started and ended here.

    make milvus-conformance

The server is the one in the package `milvus`, which wants an environment of its own. Its data lie in a folder that
is removed at the end.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from protoclip.contract.files import write_text

ROOT = Path(__file__).parents[1]
START_S = 120
# A base folder and a port; it runs until its input is closed.
STARTER = """
import sys
from milvus import default_server
default_server.set_base_dir(sys.argv[1])
default_server.listen_port = int(sys.argv[2])
with default_server:
    print("ready", flush=True)
    sys.stdin.read()
"""
SUITE = ("tests/search/stores",)


@contextmanager
def server(python: Path) -> Iterator[str]:
    """Address of a new Milvus server."""
    folder = Path(tempfile.mkdtemp(prefix="protoclip-milvus-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [python, "-c", STARTER, folder, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert "ready" in iter(process.stdout.readline, ""), "the server didn't start"
        yield f"milvus://127.0.0.1:{port}"
    finally:
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def run_suite(addresses: str) -> tuple[int, str]:
    """pytest's exit code and what it said."""
    environment = {**os.environ, "PROTOCLIP_TEST_STORES": addresses, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        *SUITE,
        "-v",
        "--durations=0",
        "-p",
        "no:cacheprovider",
        "-k",
        "milvus",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def page(said: str, seconds: float, server_version: str) -> str:
    """What was asked of the server, and how it answered."""
    outcomes = re.findall(r"^(tests\S+?)(?:\[.*\])? (PASSED|FAILED|ERROR|SKIPPED)", said, re.MULTILINE)
    table: dict[str, dict[str, int]] = {}
    for name, outcome in outcomes:
        counted = table.setdefault(name.partition("::")[2] or name, {})
        counted[outcome] = counted.get(outcome, 0) + 1
    lines = [
        f"| {name} | {', '.join(f'{number} {kind.lower()}' for kind, number in found.items())} |"
        for name, found in table.items()
    ]
    total = re.findall(r"^=*\s*(\d+ .* in [\d.]+s.*?)\s*=*$", said, re.MULTILINE)
    return "\n".join(
        [
            "# Stores: the suite against a real Milvus server",
            "",
            "`make milvus-conformance`: the tests of `tests/search/stores`, which `make test` runs on a local",
            "index and PostgreSQL, on Milvus Lite and the standalone server of the package `milvus`.",
            "",
            f"Milvus {server_version}, pymilvus {version('pymilvus')}, Python {platform.python_version()}; "
            f"{total[-1] if total else 'no result'}; {seconds:.0f} s in all.",
            "",
            "| test | outcome |",
            "|---|---|",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Starts the server, runs the suite, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path, help="of an environment with the package milvus")
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    start = time.monotonic()
    asked = "from importlib.metadata import version; print(version('milvus'))"
    told = subprocess.run([options.python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    with server(options.python) as address:
        code, said = run_suite(address)
    print(said)
    write_text(options.result, page(said, time.monotonic() - start, told))
    sys.exit(code)


if __name__ == "__main__":
    main()
