"""The README's way without training, word for word, with a hub on the loopback.

open_clip's ViT-B-32 is a small one here, so that minutes suffice; tag, repository and tokenizer are
open_clip's own.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Outcome, Run, runner
from forked_python import ForkedPython
from loopback_hub import LoopbackHub
from PIL import Image

from export.graphs.encoders import ImageEncoder
from protoclip.contract.manifest import load_manifest
from protoclip.encoders.loading import load_clip
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

README = Path(__file__).parents[2] / "README.md"
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "orange")


def commands(block: int = 1) -> list[list[str]]:
    """Of the way without a server, which is block 0, or with one."""
    text = README.read_text(encoding="utf-8").partition("## Without training")[2]
    found = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[block]
    return [shlex.split(line, comments=True)[1:] for line in found.splitlines()]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def shop(tmp_path: Path, published_vit: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with pictures, and the published model on the hub."""
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


def test_one_command_from_a_published_models_name_to_a_searchable_folder(
    shop: Path, hub: LoopbackHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, search, page = commands(0)
    assert page == ["ui", search[1]]
    built = run(*build)
    assert built.code == 0, built.err
    assert says(built, search)
    assert "onnx_fp32" in built.err
    artifact = shop / "artifacts" / "vit_b_32"
    assert load_manifest(artifact).engine.verdict.passed

    asked = len(hub.requests)
    monkeypatch.chdir(shop.parent)
    found = run("search", shop / search[1], *search[2:], "--json")
    assert found.code == 0, found.err
    assert [hit["id"] for hit in found.json["hits"]] == by_torch(shop / "photos", "red shoes")
    assert len(hub.requests) == asked

    monkeypatch.chdir(shop)
    made = load_manifest(artifact)
    again = run("index", "build", "photos/", "again.index", *build[4:], "--json")
    assert again.code == 0, again.err
    assert (again.json["entries"], again.json["artifact"]) == (len(COLOURS), str(artifact))
    assert load_manifest(artifact) == made
    (shop / "artifacts").rename(shop / "elsewhere")
    gone = run(*search)
    assert gone.code == 2
    assert f"photos.index: was built with the artifact {artifact}, which is not there: name its folder" in gone.err
    assert run(*search, "--url", "elsewhere/vit_b_32").code == 0


def test_another_models_artifact_is_kept_and_a_failed_one_is_not_used(
    tiny_artifact: Path, shop: Path, run: Run
) -> None:
    build = (*commands(0)[0], "--samples", 8)
    other = load_manifest(shutil.copytree(tiny_artifact, shop / "artifacts" / "vit_b_32"))
    done = run(*build, "--json")
    assert done.code == 0, done.err
    assert load_manifest(shop / "artifacts" / "vit_b_32") == other
    artifact = shop / "artifacts" / f"vit_b_32_{done.json['fingerprint'][:6]}"
    assert done.json["artifact"] == str(artifact)

    manifest = load_manifest(artifact)
    [engine] = manifest.engines
    failed = engine.model_copy(update={"verdict": engine.verdict.model_copy(update={"passed": False})})
    manifest.model_copy(update={"engines": (failed,)}).save(artifact)
    refused = run(*build)
    assert refused.code == 1
    assert f"artifacts/{artifact.name}: the verdict on onnx_fp32 is failed" in refused.err


def test_an_export_that_fails_its_verdict_makes_no_index(
    shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = commands(0)[0]
    write = ImageEncoder.forward
    monkeypatch.setattr(ImageEncoder, "forward", lambda self, pixels: write(self, pixels.flip(-1)))
    done = run(*build, "--samples", 8)
    assert done.code == 1, done.err
    assert "onnx_fp32: image, batch 1" in done.err
    assert not (shop / "photos.index").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--export", "ViT-B-32"], "ViT-B-32 without --weights has random weights, which find nothing"),
        (["--weights", "laion2b_s34b_b79k"], "--weights is of the model to export: name it with --export"),
        (["--mean", "0.5"], "--mean is of the model to export: name it with --export"),
        (["--samples", "8"], "--samples is of the model to export: name it with --export"),
        (["--export", "ViT-B-33"], "did you mean ViT-B-32"),
        (["--export", "ViT-B-32", "--url", "http://localhost:1"], "leave one out"),
        (["--export", "ViT-B-32", "--model", "other"], "PROTOCLIP_MODEL gives --model as well"),
        (["--export", "ViT-B-32", "--header", "x-key: secret"], "--header is for a server, and none is asked"),
        (["--export", "ViT-B-32", "--ca-file", "ca.pem"], "--ca-file is for a server, and none is asked"),
        (["--export", "ViT-B-32", "--client-cert", "c.pem"], "--client-cert is for a server, and none is asked"),
        (["--export", "ViT-B-32", "--client-key", "c.key"], "--client-key is for a server, and none is asked"),
        (["--export", "ViT-B-32", "--samples", "1"], "--samples 1: a comparison needs 8 or more"),
    ],
)
def test_what_can_not_be_searched_with_is_refused_in_one_line(
    shop: Path, hub: LoopbackHub, run: Run, changes: list[str], message: str
) -> None:
    done = run("index", "build", "photos/", "photos.index", *changes)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (shop / "artifacts").exists()
    assert hub.requests == []


def test_what_stops_an_index_stops_it_before_the_export(shop: Path, hub: LoopbackHub, run: Run) -> None:
    model = commands(0)[0][4:]
    (shop / "taken").mkdir()
    (shop / "taken" / "a.txt").touch()
    for arguments, message in {
        ("nothing/", "photos.index"): "nothing/: no such file or folder",
        ("photos/", "taken"): "taken is no index",
    }.items():
        done = run("index", "build", *arguments, *model)
        assert (done.code, message in done.err, done.err.count("\n")) == (2, True, 1), done.err
    assert hub.requests == []


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
