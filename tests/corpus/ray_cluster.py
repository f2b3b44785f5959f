"""Ray Data on a real cluster of two nodes, one of which is lost on the way: `make ray-corpus`, two minutes.

Not among the tests that always run: Ray is 80 MB, and a cluster takes 20 s of two cores to start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from command_line import runner
from corpus_program import MadeUp, expected_vector, is_bad, make_client, make_work
from picture_bytes import saved
from PIL import Image
from pyarrow import parquet
from ray.cluster_utils import Cluster

from protoclip.client import Client
from protoclip.contract.progress import silent
from protoclip.corpus.ray_data import write_on_ray
from protoclip.corpus.run import Work, write_corpus

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]
STORE_BYTES = 80 << 20


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two nodes of one core on this machine, each with processes of its own."""
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@dataclass(frozen=True)
class SlowJob:
    """Made-up pictures at 20 ms each; each worker leaves its node's name."""

    parts_at: Path
    count: int

    @contextmanager
    def opened(self) -> Iterator[tuple[Work, Client]]:
        node = ray.get_runtime_context().get_node_id()
        (self.parts_at.parent / f"node {node}").touch()
        with make_client(delay_s=0.02) as client:
            yield make_work("embeddings", MadeUp(self.count), client), client


def test_a_node_is_lost_and_every_picture_is_there_once(cluster: Cluster, tmp_path: Path) -> None:
    job = SlowJob(tmp_path / "out", 1000)
    with make_client() as client:
        plan = make_work("embeddings", MadeUp(job.count), client).plan
    ray.init(address=cluster.address, log_to_driver=False)
    lost: list[int] = []
    thread = Thread(target=_lose_a_node, args=(cluster, tmp_path, lost))
    thread.start()
    write = partial(write_on_ray, job=job, address="auto", num_workers=2)
    written = write_corpus(plan, tmp_path / "out", write, silent)
    thread.join()
    assert 0 < lost[0] < plan.num_parts
    assert written.num_now == job.count
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    assert [row["id"] for row in rows] == [f"picture {number}" for number in range(job.count)]
    for number, row in enumerate(rows):
        if not is_bad(number, job.count):
            np.testing.assert_allclose(row["vector"], expected_vector(number), rtol=1e-6)
    assert len(list((tmp_path / "out").iterdir())) == plan.num_parts + 2


def _lose_a_node(cluster: Cluster, folder: Path, lost: list[int]) -> None:
    """Once both nodes have begun and some parts are there."""
    while len(list(folder.glob("node *"))) < 2 or len(list((folder / "out").glob("part-*"))) < 4:
        time.sleep(0.05)
    lost.append(len(list((folder / "out").glob("part-*"))))
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


@pytest.mark.parametrize("name", ["vectors", "vectors.parquet"])
def test_the_command_gives_what_it_gives_here(
    name: str,
    cluster: Cluster,
    tmp_path: Path,
    tiny_artifact: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a folder and of a table that holds its pictures."""
    rng = np.random.default_rng(0)
    pictures: list[Any] = [Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)) for _ in range(40)]
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures[:20]):
        picture.save(tmp_path / "photos" / f"{number:02}.png")
    (tmp_path / "photos" / "20.png").write_bytes(b"no picture")
    table = pa.table({"image": [saved(picture) for picture in pictures[20:]]})
    parquet.write_table(table, tmp_path / "table.parquet")
    monkeypatch.chdir(tmp_path)
    run = runner(monkeypatch, capsys)
    given = ("embed", "photos", "table.parquet", "--url", tiny_artifact, "--part-size", 4)
    outcome = run(*given, "--out", name, "--ray", cluster.address)
    assert (outcome.code, outcome.out) == (0, f"41 pictures in {name}\n")
    assert "warning: 1 of 41 failed" in outcome.err
    assert run(*given, "--out", f"here_{name}").code == 0
    there, here = (parquet.read_table(path).to_pydict() for path in (name, f"here_{name}"))
    assert (there["id"], there["error"]) == (here["id"], here["error"])
    np.testing.assert_allclose(there["vector"], here["vector"], rtol=0, atol=1e-6)
    again = run(*given, "--out", name, "--ray", cluster.address)
    assert again.out == f"41 pictures in {name}, 41 of them from an earlier run\n"
