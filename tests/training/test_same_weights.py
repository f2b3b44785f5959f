"""The same pairs as table, folder, Parquet, shards and stored objects train to the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from data_folders import put, write_tar
from forked_python import ForkedPython
from object_store import ObjectStore
from pyarrow import parquet
from run_ranks import SCRIPTS, run_on_ranks
from tiny_training import shapes_values

from protoclip.runs.metrics import METRICS_FILE, read_metrics

STEPS, CHECKPOINT_EVERY = 24, 4
FILES = ("model.safetensors", "heads.safetensors", "prototypes.safetensors")


class Run:
    """A configuration, its files, and the weights that it gave."""

    def __init__(self, values: dict[str, Any], folder: Path, path: str, **data: object) -> None:
        from protoclip.encoders.registry import model_config

        num_workers = data.pop("num_workers", 0)
        values = values | {"data": {"path": [path], "group_column": "kind", **data}}
        values["train"] = values["train"] | {
            "steps": STEPS, "checkpoint_every_steps": CHECKPOINT_EVERY, "num_workers": num_workers,
        }  # fmt: skip
        name = values["model"]["name"]
        (folder / f"{name}.json").write_text(json.dumps(model_config(name)))
        (folder / "config.json").write_text(json.dumps(values))
        self.run, self.values = folder / "run", values
        self.arguments = (str(folder / "config.json"), str(folder / f"{name}.json"), str(self.run))

    @property
    def weights(self) -> list[bytes]:
        return [(self.run / name).read_bytes() for name in FILES]


@pytest.fixture(scope="module")
def folder(shapes_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 72 pairs of shapes in every layout."""
    folder = tmp_path_factory.mktemp("layouts")
    table, members, rows = ["image,text,kind"], {}, []
    for number, row in enumerate(parquet.read_table(shapes_file).to_pylist()):
        key, text, kind = f"{number:03d}", row["texts"][0], row["kind"]
        table.append(f"img/{key}.png,{text},{kind}")
        rows.append({"image": row["image"], "text": text, "kind": kind})
        members[f"{key}.png"] = row["image"]
        members[f"{key}.txt"] = text.encode()
        members[f"{key}.json"] = json.dumps({"kind": kind}).encode()
        put(folder / "table", {f"img/{key}.png": row["image"]})
    put(folder / "table", {"pairs.csv": "\n".join(table)})
    put(folder / "sidecars", members)
    (folder / "parquet").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), folder / "parquet" / "pairs.parquet")
    (folder / "shards").mkdir()
    names = list(members)
    for shard in range(3):
        chosen = names[72 * shard : 72 * (shard + 1)]
        write_tar(folder / "shards" / f"{shard:03d}.tar", {name: members[name] for name in chosen})
    return folder


@pytest.fixture(scope="module")
def reference(tiny_model: str, shapes_file: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(
        shapes_values(tiny_model, shapes_file), tmp_path_factory.mktemp("table"), str(folder / "table/pairs.csv")
    )
    run_on_ranks("train_shapes.py", 1, *run.arguments)
    return run


@pytest.mark.parametrize(
    ("layout", "settings"),
    [
        ("sidecars", {}),
        ("parquet", {"cache_mb": 0}),
        ("shards/{000..002}.tar", {"cache_mb": 0, "num_workers": 2}),
    ],
)
def test_every_layout_trains_to_the_same_weights(
    layout: str, settings: dict[str, object], folder: Path, reference: Run, tmp_path: Path, tiny_model: str
) -> None:
    run = Run(reference.values, tmp_path, str(folder / layout), **settings)
    run_on_ranks("train_shapes.py", 1, *run.arguments)
    assert run.weights == reference.weights


@pytest.mark.parametrize("layout", ["table/pairs.csv", "sidecars"])
def test_objects_in_a_store_do_too(
    layout: str, folder: Path, reference: Run, tmp_path: Path, store: ObjectStore
) -> None:
    """Read by two workers, which are forked when fsspec's thread runs already."""
    store.put_folder(folder / "table", "table")
    store.put_folder(folder / layout.partition("/")[0], layout.partition("/")[0])
    cache = str(tmp_path / "cache")
    run = Run(reference.values, tmp_path, f"s3://pairs/{layout}", cache_mb=0, num_workers=2, cache_dir=cache)
    run_on_ranks("train_shapes.py", 1, *run.arguments)
    assert run.weights == reference.weights


def test_killed_inside_an_episode_and_resumed(
    folder: Path, reference: Run, tmp_path: Path, store: ObjectStore
) -> None:
    store.put_folder(folder / "shards", "shards")
    cache = str(tmp_path / "cache")
    run = Run(reference.values, tmp_path, "s3://pairs/shards/*.tar", cache_mb=0, num_workers=2, cache_dir=cache)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, str(SCRIPTS / "train_shapes.py"), *run.arguments]
        process = ForkedPython(command, env=environment, stderr=log)
        while process.poll() is None and steps_done(run.run) < 9:
            time.sleep(0.01)
        assert process.poll() is None, (tmp_path / "log").read_text()
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = sorted((run.run / "checkpoints").iterdir())[-1]
    assert json.loads((last / "position.json").read_text())["batch"] > 0
    shutil.rmtree(cache)
    run_on_ranks("train_shapes.py", 1, *run.arguments)
    assert run.weights == reference.weights


def test_a_picture_that_is_gone_is_left_out_by_name(
    folder: Path, reference: Run, tmp_path: Path, store: ObjectStore
) -> None:
    """Its key disappeared, or the store did not give it: the run goes on without it."""
    address = store.put_folder(folder / "table", "incomplete")
    store.delete("incomplete/img/005.png")
    run = Run(reference.values, tmp_path, f"{address}/pairs.csv", cache_mb=0, num_workers=2)
    run_on_ranks("train_shapes.py", 1, *run.arguments)
    assert (run.run / "left_out.csv").read_text().splitlines() == [
        "name,reason",
        f"{address}/img/005.png,can't be read: no such file",
    ]
    assert run.weights != reference.weights


def test_on_two_ranks(folder: Path, reference: Run, tmp_path: Path, store: ObjectStore) -> None:
    store.put_folder(folder / "parquet", "parquet")
    runs = []
    for name, path in (("here", str(folder / "table/pairs.csv")), ("store", "s3://pairs/parquet/pairs.parquet")):
        (tmp_path / name).mkdir()
        runs.append(Run(reference.values, tmp_path / name, path, cache_mb=0, num_workers=1))
        run_on_ranks("train_shapes.py", 2, *runs[-1].arguments)
    assert runs[0].weights == runs[1].weights


def steps_done(run: Path) -> int:
    if not (run / METRICS_FILE).exists():
        return 0
    return max((int(line["step"]) for line in read_metrics(run) if line["kind"] == "step"), default=0)
