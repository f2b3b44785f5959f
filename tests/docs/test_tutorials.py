"""Every command and every line of Python of the tutorials, in their order, on small data and small models."""

from __future__ import annotations

import csv
import json
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from command_line import Run
from loopback_hub import LoopbackHub
from other_artifacts import add_golden, other_artifact
from page_code import DOCS, commands, run_page
from pyarrow import parquet

from protoclip.contract.manifest import load_manifest
from protoclip.runs.metrics import read_metrics

FEW_SAMPLES = ("--samples", 8, "--max-batch-size", 8)
OTHER = "fedcba9876543210"


def quick(**settings: object) -> list[str]:
    """Words for a short training; `train_steps=8` is `--set train.steps=8`."""
    given = {"clustering_num__iterations": 2, "clustering_num__restarts": 1, "train_batch__size": 12, **settings}
    named = [
        f"{name.replace('__', '-').replace('_', '.').replace('-', '_')}={value}" for name, value in given.items()
    ]
    return ["--quiet", *(word for setting in named for word in ("--set", setting))]


@pytest.mark.usefixtures("shop")
def test_own_pictures(run: Run, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    less = {"train": quick(model_name=tiny_model, train_steps=8), "export": FEW_SAMPLES}
    code = run_page("tutorials/own-pictures.md", run, monkeypatch, more=less)
    assert code.blocks == {"sh": 6, "python": 1}
    assert "R@1" in code.outcome("evaluate").out
    answer: Any = code.names["answer"]
    assert len(answer.scores) == 2


@pytest.mark.usefixtures("shop", "published_vit")
def test_a_published_model(run: Run, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    code = run_page("tutorials/published-model.md", run, monkeypatch, more={"index build": ("--samples", 8)})
    assert code.blocks == {"sh": 4, "python": 1}
    assert load_manifest(Path("artifacts/vit_b_32")).engine.verdict.passed
    hits: Any = code.names["hits"]
    assert len(hits) == 5
    assert any(request.endswith("open_clip_model.safetensors") for request in hub.requests)


@pytest.mark.usefixtures("shop", "published_vit")
def test_fine_tuning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    less = {
        "export": FEW_SAMPLES,
        "train": quick(train_passes=20, optim_learning__rate=0.01, optim_warmup__steps=2),
    }
    code = run_page("tutorials/fine-tuning.md", run, monkeypatch, more=less)
    before: Any = code.names["before"]
    after: Any = code.names["after"]
    assert set(before) == set(after) == {"held_out.csv", "general.csv"}
    assert after["held_out.csv"] > before["held_out.csv"]


def test_icons(shop: Path, run: Run, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_icons(shop / ".cache" / "icons" / "parquet")
    less = {"train": quick(model_name=tiny_model, train_steps=4, train_batch__size=4), "export": FEW_SAMPLES}
    code = run_page("tutorials/icons.md", run, monkeypatch, more=less)
    assert code.blocks == {"sh": 5, "python": 0}
    found = code.outcome("search icons.index --text arrow left").out
    assert "amber/" in found
    assert "copper/" not in found


def write_icons(folder: Path) -> None:
    """The pictures of the shop as `make icons` writes its own: of four sets, two are trained on."""
    folder.mkdir(parents=True)
    with open("pairs.csv", newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    rows = []
    for number, pair in enumerate(pairs):
        house = ("copper", "dove", "amber", "brass")[number % 4]
        picture = {"bytes": Path(pair["image"]).read_bytes(), "path": f"{house}/{number}.png"}
        split = "unseen_set" if house in ("amber", "brass") else "train"
        facts = {"set": house, "icon": f"icon-{number}", "license": "MIT", "split": split}
        rows.append({"image": picture, "text": pair["text"], **facts})
    parquet.write_table(pa.Table.from_pylist(rows), folder / "00000-of-00001.parquet")


@pytest.mark.usefixtures("shop")
def test_several_nodes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "train --data pairs.csv --out runs/two"
    less = {f"{words} --ranks": quick(train_steps=4), f"{words} --resume": quick(train_steps=6)}
    run_page("tutorials/several-nodes.md", run, monkeypatch, more=less)
    steps = [line["step"] for line in read_metrics(Path("runs/two")) if line["kind"] == "step"]
    assert steps[-1] == 6
    assert json.loads(Path("runs/two/config.json").read_text())["clustering"]["backend"] == "lloyd"


def test_the_commands_for_several_nodes_are_understood() -> None:
    from torch.distributed.run import parse_args
    from typer.main import get_command

    from protoclip.cli import app

    page = (DOCS / "tutorials/several-nodes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.+?)^```", page, re.MULTILINE | re.DOTALL)
    shown = [text for kind, text in blocks if not kind]
    lines = [shlex.split(line.replace("…", "")) for block in shown for line in commands(block)]
    assert len(lines) == 3
    for words in lines:
        found = parse_args(words[1:])
        name, *arguments = found.training_script_args
        get_command(app).commands[name].make_context(name, arguments)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("shop")
def test_triton(
    write_artifact: Callable[..., Path], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop = write_artifact(Path("artifacts/shop"), name="shop")
    for artifact in (shop, other_artifact(shop, Path("artifacts/new"), OTHER)):
        add_golden(artifact)
    # So that `deploy`, in this process, sees this test's server alone.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    less = {"repository": ("--encoder-threads", 1), "load-test": ("--duration", 1, "--warmup", 0)}
    code = run_page("tutorials/triton.md", run, monkeypatch, more=less)
    listed = [outcome.out for line, outcome in code.said if line == "deploy --list"]
    assert "shop → shop_fedcba" in listed[1]
    assert "shop → shop_fedcba" not in listed[0]
    assert "shop → shop_012345" in code.outcome("deploy --rollback").out
    hits: Any = code.names["hits"]
    assert len(hits) == 3
    assert f" {hits[0]['id']} " in code.outcome("search").out
