"""What Client costs beside tritonclient alone: the same bytes to the same model over both protocols, in turn.

    python benchmarks/client_overhead.py ARTIFACT --result benchmarks/client_overhead_2cores_202611.md

tritonclient sends one request with all items, marked with the priority that Client gives it, and unpacks both
outputs. Client has the same batch in one request too: for that `bulk_batch_size` is 32 in the repository that the
script writes. By default 32 items are several requests at once: that a server takes 8 of a
client at a time, so that others need not wait, is a choice of the repository.
"""

from __future__ import annotations

import argparse
import io
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from numpy.typing import NDArray
from PIL import Image

from protoclip.client import Client
from protoclip.contract.files import write_text
from protoclip.contract.priorities import BULK, INTERACTIVE
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.repository import write_repository
from serving.triton.scheduling import Scheduling

BATCH = 32
WARM_UP = 30
ALLOWED_RATIO, ALLOWED_MS = 1.05, 0.3
Call = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Row:
    """Milliseconds of the same calls by both, in turn."""

    name: str
    size: int
    bare: Sequence[float]
    ours: Sequence[float]

    @property
    def cells(self) -> tuple[str, ...]:
        """For a table."""
        bare, ours = float(np.median(self.bare)), float(np.median(self.ours))
        # Of pairs that stood side by side: what else the machine did meanwhile is in both.
        added = float(np.median(np.subtract(self.ours, self.bare)))
        held = added <= ALLOWED_MS if self.size == 1 else bare + added <= ALLOWED_RATIO * bare
        bound = f"{ALLOWED_MS} ms" if self.size == 1 else f"{ALLOWED_RATIO - 1:.0%}"
        verdict = f"{'within' if held else 'BEYOND'} {bound}"
        return (self.name, f"{bare:.2f}", f"{ours:.2f}", f"{added:+.2f}", f"{added / bare:+.1%}", verdict)


def pictures(count: int, size: tuple[int, int] = (320, 240)) -> list[bytes]:
    """JPEGs of coarse noise."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def bare_grpc(url: str) -> Callable[[str, str, Sequence[bytes]], NDArray[np.float32]]:
    """tritonclient over gRPC."""
    return _bare(triton_grpc, triton_grpc.InferenceServerClient(url.removeprefix("grpc://")))


def bare_http(url: str) -> Callable[[str, str, Sequence[bytes]], NDArray[np.float32]]:
    """tritonclient over HTTP."""
    return _bare(triton_http, triton_http.InferenceServerClient(url.removeprefix("http://")))


def _bare(module: Any, client: Any) -> Callable[[str, str, Sequence[bytes]], NDArray[np.float32]]:
    outputs = [module.InferRequestedOutput(name) for name in ("embedding", "error")]

    def infer(model: str, role: str, items: Sequence[bytes]) -> NDArray[np.float32]:
        tensor = module.InferInput(role, [len(items), 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[item] for item in items], dtype=np.object_))
        priority = BULK if len(items) > 1 else INTERACTIVE
        answer = client.infer(model, [tensor], outputs=outputs, priority=priority)
        assert not any(answer.as_numpy("error").ravel())
        vectors: NDArray[np.float32] = answer.as_numpy("embedding")
        return vectors

    return infer


def compare(server: LaunchedServer, rounds: int) -> list[Row]:
    """A row for each protocol, kind of item and batch."""
    names = {model.role: model.name for model in server.models}
    items: dict[str, list[Any]] = {
        "text": [f"red shoes {number}" for number in range(BATCH)],
        "image": pictures(BATCH),
    }
    rows = []
    for protocol, url, connect in (("gRPC", server.grpc_url, bare_grpc), ("HTTP", server.http_url, bare_http)):
        infer = connect(url)
        with Client(url) as client:
            embed = {"text": client.embed_texts, "image": client.embed_images}
            for role, size in ((role, size) for role in ("text", "image") for size in (1, BATCH)):
                given = items[role][:size]
                sent = [item.encode() if isinstance(item, str) else item for item in given]
                calls = (partial(infer, names[role], role, sent), partial(embed[role], given))
                rows.append(Row(f"{protocol}, {size} {role}s", size, *in_turn(calls, rounds)))
    return rows


def in_turn(calls: Sequence[Call], rounds: int) -> list[list[float]]:
    """Milliseconds of each; which comes first changes from round to round. The answers have to be the same."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + WARM_UP):
        answers = {}
        for which in range(len(calls)) if number % 2 else reversed(range(len(calls))):
            start = time.perf_counter()
            answers[which] = calls[which]()
            if number >= WARM_UP:
                times[which].append((time.perf_counter() - start) * 1e3)
        np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)
    return times


def page(rows: Sequence[Row], rounds: int, artifact: Path) -> str:
    """The result."""
    head = ("call", "tritonclient ms", "Client ms", "added ms", "added", "")
    table = [head, ("---", *["---:"] * 4, "---"), *(row.cells for row in rows)]
    return "\n".join(
        [
            "# What Client costs beside tritonclient",
            "",
            f"`python benchmarks/client_overhead.py {artifact.name} --rounds {rounds}`: {time.strftime('%B %Y')}, "
            f"Python {platform.python_version()}, {platform.machine()}. p50 of {rounds} calls each, in turn; what "
            "is added is the median of the differences of calls that stood side by side.",
            "",
            *(f"| {' | '.join(cells)} |" for cells in table),
            "",
        ]
    )


def main() -> None:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, help="folder that `protoclip export` wrote")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_repository(arguments.artifact, Path(folder), scheduling=Scheduling(bulk_batch_size=BATCH))
        with TritonServer(Path(folder)) as server:
            found = page(compare(server, arguments.rounds), arguments.rounds, arguments.artifact)
    print(found)
    if arguments.result is not None:
        write_text(arguments.result, found)


if __name__ == "__main__":
    main()
