"""Sends odd requests by both protocols to a server of its own on this machine; it must live and answer as before.

    python benchmarks/fuzz_server.py REPOSITORY --count 50000 --seed 1 --result benchmarks/fuzz_2cores_202611.md

Each request is made from the seed and its number: `--only NUMBER` sends that one alone. Exit code 1 where a
process of the server or the guard ended, or the same picture and text got another embedding afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from hostile_grpc import make_call, send_call
from hostile_http import Sent, make_http, picture
from tritonclient.grpc import service_pb2, service_pb2_grpc

from protoclip.contract.errors import ServerError
from serving.triton.launcher import LaunchedServer, TritonServer

CONNECTIONS = 8
"""Requests at once."""
ANSWER_S = 10.0
PARTIAL_S = 0.2
"""How long an answer is waited for to a request that may not be whole."""
CHECK_EVERY = 50


@dataclass
class Outcome:
    """Answers by kind of request and status, and what went wrong."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def send_http(address: tuple[str, int], sent: Sent) -> str:
    """Status of the answer, or what came in its place."""
    with socket.create_connection(address, timeout=ANSWER_S) as connection:
        try:
            for piece in sent.pieces:
                connection.sendall(piece)
            if not sent.read:
                return "left"
            connection.settimeout(ANSWER_S if sent.kind == "HTTP" else PARTIAL_S)
            answer = connection.recv(1 << 16)
            return answer[9:12].decode("ascii", "replace") if answer.startswith(b"HTTP/1.1 ") else "closed"
        except TimeoutError:
            return "waits for more"
        except OSError:
            return "closed"


def embeddings(server: LaunchedServer) -> list[bytes]:
    """Bytes of the vectors of a picture and a text, over gRPC, and over HTTP of the text."""
    models = {model.role: model.name for model in server.models}
    items = {"text": b"red shoes", "image": picture(random.Random(3))}
    vectors = []
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://"), options=options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for role, item in items.items():
            request = service_pb2.ModelInferRequest(model_name=models[role])
            request.inputs.add(name=role, datatype="BYTES", shape=[1, 1])
            request.raw_input_contents.append(struct.pack("<I", len(item)) + item)
            request.outputs.add(name="embedding")
            vectors.append(bytes(stub.ModelInfer(request, timeout=30).raw_output_contents[0]))
    head = f"POST /v2/models/{models['text']}/infer HTTP/1.1\r\nInference-Header-Content-Length: 0\r\n"
    with socket.create_connection(_address(server), timeout=30) as connection:
        connection.sendall(head.encode() + b"Content-Length: 9\r\nConnection: close\r\n\r\nred shoes")
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return [*vectors, answer.partition(b"\r\n\r\n")[2]]


def _address(server: LaunchedServer) -> tuple[str, int]:
    host, _, port = server.http_url.removeprefix("http://").rpartition(":")
    return host, int(port)


def session(leader: int) -> dict[int, int]:
    """Living processes of the server's session, with their resident memory in pages."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found[int(folder.name)] = int(fields[21])
    return found


def _send(
    number: int, seed: int, server: LaunchedServer, channel: grpc.Channel, models: dict[str, str]
) -> tuple[str, str]:
    rng = random.Random(seed * 1_000_003 + number)
    if rng.random() < 0.5:
        sent = make_http(rng, models)
        return sent.kind, send_http(_address(server), sent)
    call = make_call(rng, models)
    return call.kind, send_call(channel, call)


def fuzz(triton: TritonServer, server: LaunchedServer, numbers: range, seed: int, limit_s: float) -> Outcome:
    """Sends the requests of `numbers`, CONNECTIONS at once, until the server ends or `limit_s` are over."""
    outcome, lock, end = Outcome(), threading.Lock(), time.monotonic() + limit_s
    models = {model.role: model.name for model in server.models}
    waiting: Iterator[int] = iter(numbers)

    def work(_: int) -> None:
        target = server.grpc_url.removeprefix("grpc://")
        with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            while True:
                with lock:
                    number = next(waiting, None)
                if number is None or outcome.faults or time.monotonic() > end:
                    return
                answer = _send(number, seed, server, channel, models)
                with lock:
                    outcome.answers[answer] += 1
                if number % CHECK_EVERY == 0:
                    fault = triton.ended() or triton.keep_guard()
                    if fault is not None:
                        outcome.faults.append(f"{fault}, about request {number}")

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(work, range(CONNECTIONS)))
    return outcome


def run(repository: Path, numbers: range, seed: int, limit_s: float) -> tuple[Outcome, str]:
    """Fuzzes a server of its own; the outcome with all that was different afterwards, and a line on memory."""
    triton = TritonServer(repository)
    with triton as server:
        before, processes = embeddings(server), session(server.pid)
        outcome = fuzz(triton, server, numbers, seed, limit_s)
        try:
            triton.wait(1.0)
            if triton.keep_guard() is not None:
                outcome.faults.append("the guard ended")
            if embeddings(server) != before:
                outcome.faults.append("the same picture and text get other embeddings")
        except (ServerError, OSError, grpc.RpcError) as error:
            outcome.faults.append(str(error))
        after = session(server.pid)
        if set(after) != set(processes):
            outcome.faults.append(f"processes {sorted(set(processes) ^ set(after))} ended or came")
        page = os.sysconf("SC_PAGE_SIZE") / 1e6
        memory = f"{sum(processes.values()) * page:.0f} MB before, {sum(after.values()) * page:.0f} MB after"
    return outcome, memory


def report(outcome: Outcome, seed: int, memory: str, duration_s: float) -> str:
    """Markdown."""
    kinds = sorted({kind for kind, _ in outcome.answers})
    rows = []
    for kind in kinds:
        answers = Counter({answer: count for (each, answer), count in outcome.answers.items() if each == kind})
        told = ", ".join(f"{answer} {count:,}" for answer, count in answers.most_common())
        rows.append(f"| {kind} | {answers.total():,} | {told} |")
    verdict = "; ".join(outcome.faults) or "all processes live, and the answers are the same bit for bit"
    lines = [
        "# Odd requests to a server, by both protocols",
        "",
        f"{outcome.answers.total():,} requests with seed {seed}, {CONNECTIONS} at once, in {duration_s:.0f} s. "
        f"Python {platform.python_version()}, embedded server. By `benchmarks/fuzz_server.py`.",
        "",
        f"Afterwards: {verdict}. Memory of the server's processes: {memory}.",
        "",
        "| kind | requests | answers |",
        "|---|---:|---|",
        *rows,
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs it; 1 where something went wrong."""
    parser = argparse.ArgumentParser(description="Sends odd requests to a server of its own.")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="number of a single request")
    parser.add_argument("--limit-s", type=float, default=1800.0, help="ends after this time")
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    only = arguments.only
    numbers = range(arguments.count) if only is None else range(only, only + 1)
    began = time.monotonic()
    outcome, memory = run(arguments.repository, numbers, arguments.seed, arguments.limit_s)
    text = report(outcome, arguments.seed, memory, time.monotonic() - began)
    print(text)
    if arguments.result:
        arguments.result.write_text(text, encoding="utf-8")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
