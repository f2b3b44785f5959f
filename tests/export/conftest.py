"""Small open_clip models of three kinds, each exported once, and pictures with texts to compare on.

`tiny-sigmoid` is built as SigLIP is; open_clip would take "siglip" in a name as an order for a tokenizer
that it has to download.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import export.engines
from export.artifact import export_artifact
from export.graphs.source import load_source
from export.graphs.to_onnx import Signature, write_onnx
from export.parity.samples import Samples
from protoclip.contract.manifest import Manifest
from protoclip.encoders.model import ClipModel

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
ARCHITECTURES = {
    "tiny-vit": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": TEXT,
    },
    "tiny-sigmoid": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    },
}
Traces = Callable[[], contextlib.AbstractContextManager[None]]
SIGMOID_MEAN = SIGMOID_STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Exported:
    clip: ClipModel
    folder: Path
    manifest: Manifest


@pytest.fixture(scope="session")
def architectures(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Names of the three models, known to open_clip from here on."""
    import open_clip

    folder = tmp_path_factory.mktemp("architectures")
    for name, config in ARCHITECTURES.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return tuple(ARCHITECTURES)


@pytest.fixture(scope="session")
def samples() -> Samples:
    numbers = range(20)
    texts = tuple(f"{number} {'red' if number % 2 else 'blue'} shapes" for number in numbers)
    return Samples(tuple(drawing(number) for number in numbers), texts, "drawings")


@pytest.fixture(scope="session")
def tiny_clip(architectures: tuple[str, ...]) -> ClipModel:
    return load_source("tiny-vit").clip


@pytest.fixture(scope="session")
def exported_vit(
    tiny_clip: ClipModel, samples: Samples, tmp_path_factory: pytest.TempPathFactory, traces: Traces
) -> Exported:
    """Shared by the tests: nobody may write into its folder."""
    return export_once(tiny_clip, samples, tmp_path_factory, traces)


@pytest.fixture(scope="session", params=sorted(ARCHITECTURES))
def exported(
    request: pytest.FixtureRequest,
    architectures: tuple[str, ...],
    samples: Samples,
    tmp_path_factory: pytest.TempPathFactory,
    traces: Traces,
) -> Exported:
    """Each of the three models, exported; shared by the tests."""
    if request.param == "tiny-vit":
        return request.getfixturevalue("exported_vit")
    clip = load_source(request.param).clip
    if request.param == "tiny-sigmoid":
        clip.module.visual.preprocess_cfg |= {"mean": SIGMOID_MEAN, "std": SIGMOID_STD, "resize_mode": "squash"}
        clip = replace(clip, mean=SIGMOID_MEAN, std=SIGMOID_STD, pixels=replace(clip.pixels, resize="squash"))
    return export_once(clip, samples, tmp_path_factory, traces)


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """`with traces():` a float32 graph that was written before is copied: tracing takes most of an export's time.

    Not for tests that change what is traced, and not for those of the tracing itself. Graphs are told apart by the
    model's fingerprint, which stands in their metadata, and by all other arguments; all processes share them.
    """
    base = tmp_path_factory.getbasetemp()
    kept = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "traced"

    def write_or_copy(
        encoder: torch.nn.Module, example: object, path: Path, signature: Signature, **more: Any
    ) -> int:
        key = hashlib.sha256(repr((type(encoder), signature, sorted(more.items()))).encode()).hexdigest()
        if not (kept / key).exists():
            kept.mkdir(exist_ok=True)
            new = Path(tempfile.mkdtemp(dir=kept))
            version = write_onnx(encoder, example, new / path.name, signature, **more)
            (new / "ir_version").write_text(str(version))
            with contextlib.suppress(OSError):  # another process was faster
                new.rename(kept / key)
        for file in (kept / key).glob(f"{path.name}*"):
            shutil.copy(file, path.with_name(file.name))
        return int((kept / key / "ir_version").read_text())

    @contextlib.contextmanager
    def copied() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export.engines, "write_onnx", write_or_copy)
            yield

    return copied


@pytest.fixture
def traced_once(traces: Traces) -> Iterator[None]:
    """`traces` for a whole test."""
    with traces():
        yield


def export_once(clip: ClipModel, samples: Samples, factory: pytest.TempPathFactory, traces: Traces) -> Exported:
    folder = factory.mktemp("exported") / "artifact"
    with traces():
        return Exported(clip, folder, export_artifact(clip, folder, "tiny", samples, random_weights=True))


def drawing(number: int) -> bytes:
    """A picture file of shapes and noise, another for each number."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        left, top = (int(value) for value in rng.integers(0, 30, 2))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        pen.ellipse((left, top, left + 15, top + 12), fill=colour)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
