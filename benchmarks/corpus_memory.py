"""Memory and time of `classify --out FILE.parquet` over a number of pictures, without what the server takes.

    python benchmarks/corpus_memory.py --pictures 1000000

The model answers at once, so that what is left is ours: names, batches, answers, Parquet, joining. 100 classes,
the best two of them, parts of 4,096.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from protoclip.client import ClassBank, Client, InMemoryTransport, MemoryModel
from protoclip.client.classification import Choice
from protoclip.contract.progress import silent
from protoclip.corpus.plan import Plan, items_digest
from protoclip.corpus.run import Work, write_corpus
from protoclip.corpus.tables import answers_table

DIM, NUM_CLASSES = 64, 100


class Names:
    """Pictures that are their names."""

    def __init__(self, count: int) -> None:
        self._names = [f"photos/some/folder/{number:08}.jpg" for number in range(count)]

    def __len__(self) -> int:
        return len(self._names)

    def name(self, row: int) -> str:
        """As in a listing."""
        return self._names[row]

    def item(self, row: int) -> bytes:
        """What is sent."""
        return self._names[row].encode()

    def reason(self, row: int) -> str | None:
        """None is known to be bad."""
        return None


def main() -> None:
    """Measures and prints a line of a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    count = parser.parse_args().pictures
    items = Names(count)
    before = _megabytes()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, _client() as client:
        write_corpus(_plan(items, client), Path(folder) / "answers.parquet", _writer(items, client), silent)
    seconds = time.perf_counter() - begun
    print("| pictures | MB with their names | MB at most | s |\n|---|---|---|---|")
    print(f"| {count:,} | {before} | {_megabytes()} | {seconds:.0f} |")


def _client() -> Client:
    fixed = np.random.default_rng(0).standard_normal((NUM_CLASSES, DIM)).astype(np.float32)
    model = MemoryModel(lambda data: fixed[int(data[-6:-4])], lambda text: fixed[0], DIM, max_batch_size=256)
    return Client(transport=InMemoryTransport(model), batch_size=256)


def _plan(items: Names, client: Client) -> Plan:
    return Plan(
        contents="classifications",
        model=client.model.prefix,
        fingerprint=client.model.fingerprint,
        num_items=len(items),
        items_sha256=items_digest(items),
        part_size=4096,
    )


def _writer(items: Names, client: Client) -> partial[object]:
    vectors = np.random.default_rng(1).standard_normal((NUM_CLASSES, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = tuple(f"class {number}" for number in range(NUM_CLASSES))
    bank = ClassBank(labels, ("{}",), vectors, client.model.prefix, client.model.fingerprint)
    table = partial(answers_table, classes=bank, model=client.model, choice=Choice(top_k=2))
    return partial(Work(items, _plan(items, client), table).write, client=client)


def _megabytes() -> int:
    """The most of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
