"""A plugin of pytest: a tiny model and a tiny set of pairs that can be told apart, coloured shapes with names."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw
from pyarrow import parquet

if TYPE_CHECKING:
    from protoclip.config.schema import RunConfig

TrainOnce = Callable[["RunConfig"], Path]
COLOURS = {"red": (220, 20, 30), "green": (10, 160, 40), "blue": (20, 40, 220), "yellow": (240, 220, 10)}
SHAPES = ("square", "disc", "bar")
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a model of ours that open_clip knows from here on."""
    from protoclip.encoders.torchvision_workaround import make_torchvision_importable

    make_torchvision_importable()
    import open_clip

    path = tmp_path_factory.mktemp("architectures") / "tiny-trainable.json"
    path.write_text(json.dumps(TINY))
    open_clip.add_model_config(path)
    return "tiny-trainable"


def draw_picture(colour: str, shape: str, seed: int) -> bytes:
    draw_numbers = np.random.default_rng(seed)
    image = Image.new("RGB", (24, 24), (255, 255, 255))
    left, top = draw_numbers.integers(0, 8, 2).tolist()
    box = (left, top, left + 14, top + 14)
    pen = ImageDraw.Draw(image)
    if shape == "disc":
        pen.ellipse(box, fill=COLOURS[colour])
    else:
        pen.rectangle(box if shape == "square" else (left, top, left + 14, top + 4), fill=COLOURS[colour])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def shapes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 pairs: 12 kinds, 6 drawings of each."""
    rows: list[dict[str, Any]] = []
    for number, (colour, shape) in enumerate((c, s) for c in COLOURS for s in SHAPES):
        for seed in range(6):
            texts = [f"{colour} {shape}", f"a {shape} in {colour}"]
            picture = draw_picture(colour, shape, 100 * number + seed)
            rows.append({"image": picture, "texts": texts, "kind": f"{colour} {shape}", "colour": colour})
    path = tmp_path_factory.mktemp("shapes") / "shapes.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def shapes_config(tiny_model: str, shapes_file: Path) -> dict[str, Any]:
    """Plain values of a run of 24 steps: warm-up, two main episodes, LiT."""
    return shapes_values(tiny_model, shapes_file)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> TrainOnce:
    """`trained_once(config)`: a finished run, trained when it is first asked for. Nobody may write into it."""
    from protoclip.training.train import train

    runs: dict[str, Path] = {}

    def run(config: RunConfig) -> Path:
        key = config.model_dump_json()
        if key not in runs:
            runs[key] = train(config, tmp_path_factory.mktemp("trained") / "run", quiet=True)
        return runs[key]

    return run


def shapes_values(tiny_model: str, shapes_file: Path) -> dict[str, Any]:
    """What the fixture `shapes_config` gives."""
    return {
        "data": {"path": [str(shapes_file)], "text_columns": ["texts"], "group_column": "kind"},
        "model": {"name": tiny_model, "head": {"hidden_dim": 16, "projection_dim": 8}},
        "episode": {"warmup_episodes": 1, "lit_episodes": 1, "repeats": 1},
        "clustering": {"num_prototypes": 6, "num_iterations": 5},
        "optim": {"learning_rate": 3e-3, "warmup_steps": 4, "weight_decay": 0.1, "lit_warmup_steps": 2},
        "train": {"batch_size": 12, "steps": 24, "num_workers": 0, "log_every_steps": 1, "device": "cpu"},
    }


def with_changes(values: dict[str, Any], **sections: dict[str, Any]) -> RunConfig:
    """The configuration of `values` with some fields of some sections changed."""
    from protoclip.config.load import build_config

    merged = {name: {**values.get(name, {}), **sections.get(name, {})} for name in {*values, *sections}}
    return build_config(merged, "test")


def same_weights(first: Path, second: Path) -> bool:
    """Whether two finished runs have the same model, bit for bit."""
    import torch
    from safetensors.torch import load_file

    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
