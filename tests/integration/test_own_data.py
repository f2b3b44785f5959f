"""The commands of docs/your-own-data.md, on a small folder and with few steps."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from protoclip.cli import app
from protoclip.contract.errors import ProtoclipError
from protoclip.encoders.model import create_module

DOCUMENT = Path(__file__).parents[2] / "docs" / "your-own-data.md"
TINY = ["--quiet", "--set", "train.steps=4", "--set", "train.device=cpu"]


def commands(name: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words[:2] == ["protoclip", name]]


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the document speaks of: a table of 60 products, class folders, and trained weights."""
    lines = ["image,text,product"]
    for number in range(120):
        draw(tmp_path / "img" / f"{number}.jpg", number)
        lines.append(f"img/{number}.jpg,thing {number // 2} seen from side {number % 2},{number // 2}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    for number in range(12):
        draw(tmp_path / "photos" / ("red_fox", "sea-lion", "owl")[number % 3] / f"{number}.jpg", number)
    torch.manual_seed(0)
    state = {k: v.contiguous() for k, v in create_module("protoclip-mini-48").state_dict().items()}
    save_file(state, tmp_path / "ViT-B-32.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str]) -> None:
    app(words, standalone_mode=False)


def test_the_documented_commands_train_and_measure(shop: Path) -> None:
    trainings = commands("train")
    assert len(trainings) == 3
    for words in trainings:
        # A small model stands in for the large one: the last --set wins.
        small = ["--set", "model.name=protoclip-mini-48"] if "finetune" in words else []
        run([*words, *small, *TINY])
    assert commands("evaluate") == [["evaluate", "runs/shop"]]
    run(commands("evaluate")[0])

    config = json.loads((shop / "runs/shop/config.json").read_text())
    assert config["data"]["group_column"] == "product"
    evaluation = json.loads((shop / "runs/shop/evaluation.json").read_text())
    assert set(evaluation["cells"]) == {"train", "validation"}
    assert evaluation["num_train"] == 108
    assert len(list((shop / "runs/shop/best").glob("step_*/model.safetensors"))) == 1

    photos = json.loads((shop / "runs/photos/config.json").read_text())
    assert (photos["data"]["group_column"], photos["train"]["batch_size"]) == ("class", 2)

    begun = load_file(shop / "ViT-B-32.safetensors")
    tuned = load_file(shop / "runs/tuned/model.safetensors")
    distances = [float((begun[name] - tuned[name]).abs().max()) for name in begun if "weight" in name]
    assert 0 < max(distances) < 1e-3


def test_fine_tuning_without_weights_says_so(shop: Path) -> None:
    with pytest.raises(ProtoclipError, match="starts from trained weights"):
        run(["train", "--data", "pairs.csv", "--preset", "finetune", *TINY])
    assert not (shop / "runs").exists()
