"""Pictures decoded no larger than needed: measured before they are served, and the same from server and client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run, runner
from PIL import Image

from protoclip.client import Client
from protoclip.contract.manifest import load_manifest
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.contract.scaled_pixels import load_scaled_pixels
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.pbtxt import from_pbtxt


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 JPEGs with large shapes, and some that are too small to be decoded smaller."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(73):
        small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        size = (40, 40) if number >= 70 else (201 + number, 151 + 2 * number)
        small.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:02}.jpg", quality=90)
    (folder / "bad.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def scaled(
    tiny_artifact: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchedServer]:
    from export.scaled_decoding import judge_scaled_decoding
    from serving.triton.repository import write_repository

    repository = tmp_path_factory.mktemp("scaled")
    verdict = judge_scaled_decoding(tiny_artifact, None, [path.read_bytes() for path in sorted(photos.iterdir())])
    assert not verdict.missed
    write_repository(tiny_artifact, repository, encoder_threads=1, scaled_decoding=verdict.to_text())
    with TritonServer(repository) as server:
        yield server


def test_server_and_client_scale_alike(scaled: LaunchedServer, tiny_artifact: Path, photos: Path) -> None:
    items = sorted(photos.glob("*.jpg"))
    options: dict[str, Any] = {"concurrency": 1}
    with (
        Client(scaled.grpc_url, **options) as server,
        Client(scaled.grpc_url, **options, preprocess="client") as client,
        Client(str(tiny_artifact), **options) as whole,
    ):
        by_server = server.embed_images(items, errors="return").vectors
        client._core.transport.infer = None  # type: ignore[assignment, method-assign]
        np.testing.assert_array_equal(client.embed_images(items, errors="return").vectors, by_server)
        same = (by_server == whole.embed_images(items, errors="return").vectors).all(axis=1)
        assert not same[:70].any(), "they are scaled"
        np.testing.assert_allclose(whole.embed_images(items[70:73]), by_server[70:73], atol=1e-6)


def test_what_was_measured_stands_in_the_configuration(
    run: Run, tiny_artifact: Path, photos: Path, tmp_path: Path
) -> None:
    outcome = run("repository", tiny_artifact, "--out", tmp_path / "models", "--scaled-decoding", photos)
    assert outcome.code == 0, outcome.err
    assert "scaled decoding passed on 70 pictures: smallest centred cosine 0.9" in outcome.err
    file = tmp_path / "models" / "tiny_012345_image" / "config.pbtxt"
    parameters = from_pbtxt(file.read_bytes(), "here").parameters
    told = json.loads(parameters["scaled_decoding"].string_value)
    assert (told["pictures"], told["gate"], told["engine"]) == (70, "int8", "onnx_fp32")
    assert 0.98 <= told["min_centred_cosine"] <= 1
    assert json.loads(parameters["pixels"].string_value)["decoding"] == "scaled"


def test_too_few_large_pictures_are_told(run: Run, tiny_artifact: Path, photos: Path, tmp_path: Path) -> None:
    outcome = run(
        "repository", tiny_artifact, "--out", tmp_path / "models", "--scaled-decoding", photos / "70.jpg"
    )
    assert (outcome.code, "0 of 1 pictures are so large" in outcome.err) == (2, True)
    assert not (tmp_path / "models").exists()


def test_a_model_that_sees_single_pixels_fails_the_gate(
    run: Run, write_artifact: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    """Without interpolation the encoder gets some pixels as they are, and means of blocks when they are scaled."""
    spec = PixelSpec(32, 32, interpolation="nearest")
    artifact = write_artifact(tmp_path / "artifact", pixels=spec)
    assert load_manifest(artifact).pixels == spec
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    rng = np.random.default_rng(1)
    for number in range(64):
        noise = rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)
        Image.fromarray(noise).save(noisy / f"{number}.png")
    data = (noisy / "0.png").read_bytes()
    assert np.abs(load_scaled_pixels(data, spec).astype(int) - load_pixels(data, spec)).mean() > 20
    outcome = run("repository", artifact, "--out", tmp_path / "models", "--scaled-decoding", noisy)
    assert outcome.code == 1
    assert "fail the gate of 8-bit engines (centred cosine" in outcome.err
    assert not (tmp_path / "models").exists()
