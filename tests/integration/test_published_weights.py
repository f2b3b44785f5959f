"""The README's way without training, word for word, with a hub on the loopback.

open_clip's ViT-B-32 is a small one here, so that minutes suffice; tag, repository and tokenizer are
open_clip's own.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Outcome, Run, runner
from forked_python import ForkedPython
from loopback_hub import LoopbackHub, publish_model
from PIL import Image

from protoclip.encoders.model import load_clip
from protoclip.encoders.registry import register_architectures
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

README = Path(__file__).parents[2] / "README.md"
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "orange")
SMALL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def commands() -> list[list[str]]:
    text = README.read_text(encoding="utf-8").partition("## Without training")[2]
    block = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0]
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def shop(tmp_path: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with pictures, and the published model on the hub."""
    register_architectures()  # would read all of them anew
    monkeypatch.setattr(
        open_clip.factory, "_MODEL_CONFIGS", {**open_clip.factory._MODEL_CONFIGS, "ViT-B-32": SMALL}
    )
    publish_model(hub, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32", seed=4)
    folder = tmp_path / "shop"
    (folder / "photos").mkdir(parents=True)
    for name in COLOURS:
        picture = Image.effect_mandelbrot((60, 48), (-2, -1, 1, 1), 20 + len(name)).convert("RGB")
        Image.blend(picture, Image.new("RGB", (60, 48), name), 0.7).save(folder / "photos" / f"{name}.png")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def serve(shop: Path) -> Iterator[list[ForkedPython]]:
    started: list[ForkedPython] = []
    yield started
    for process in started:
        process.terminate()
        process.communicate(timeout=60)


def start(words: list[str], started: list[ForkedPython]) -> str:
    """Starts the server on free ports; its address once it answers."""
    free = ("--http-port=0", "--grpc-port=0", "--metrics-port=0", "--json")
    process = ForkedPython(
        [sys.executable, "-m", "protoclip", *words, *free],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    assert process.stdout is not None
    return str(json.loads(process.stdout.readline())["grpc_url"])


def test_from_a_published_models_name_to_a_search_through_own_pictures(
    shop: Path, hub: LoopbackHub, run: Run, serve: list[ForkedPython]
) -> None:
    models, export, served, build, search = commands()
    assert [words[0] for words in (models, export, served, build, search)] == [
        "models", "export", "serve", "index", "search",
    ]  # fmt: skip
    listed = run(*models)
    assert listed.code == 0
    assert "laion2b_s34b_b79k" in listed.out

    exported = run(*export)
    assert exported.code == 0, exported.err
    # Each command says the next one, as the page has it.
    assert says(exported, served)
    assert "random weights" not in exported.err
    asked = len(hub.requests)

    url = start(served, serve)
    built = run(*build, "--url", url)
    assert built.code == 0, built.err
    assert says(built, [*search, "--url", url])

    found = run(*search, "--url", url, "--json")
    assert found.code == 0, found.err
    assert [hit["id"] for hit in found.json["hits"]] == by_torch(shop / "photos", "red shoes")
    assert len(hub.requests) == asked


def test_the_model_that_was_exported_is_verified_without_a_network(
    shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = commands()[1]
    assert run(*export).code == 0
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run("verify", "artifacts/vit_b_32", *export[1:]).code == 0
    other = run("verify", "artifacts/vit_b_32", *export[1:], "--mean", "0.5")
    assert other.code == 2
    assert "with other weights or settings" in other.err


def says(outcome: Outcome, words: list[str]) -> bool:
    return shlex.join(["protoclip", *words]) in " ".join(outcome.err.split())


def by_torch(folder: Path, text: str) -> list[str]:
    """Names of the pictures in the order of their cosines with the text, as open_clip itself computes them."""
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=None)
    clip = load_clip("ViT-B-32", weights="laion2b_s34b_b79k")
    model.load_state_dict(clip.module.state_dict())
    names = sorted(path.name for path in folder.iterdir())
    with torch.no_grad():
        images = model.eval().encode_image(torch.stack([transform(Image.open(folder / name)) for name in names]))
        texts = model.encode_text(open_clip.get_tokenizer("ViT-B-32")([text]))
    cosines = torch.nn.functional.cosine_similarity(images, texts)
    return [names[place] for place in np.argsort(-cosines.numpy(), kind="stable")]
