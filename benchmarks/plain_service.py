"""A service as one would write it without ours: FastAPI, its pool of threads, one session.

    export PYTHONPATH=.cache/plain_service
    python benchmarks/plain_service.py onnxruntime artifacts/emoji --engine onnx_fp32
    python benchmarks/plain_service.py open_clip ViT-B-32

`POST /embed` takes the bytes of a picture and gives its vector as float32: no JSON on either way, which is the
least that such a service can do. `served_comparison.py` starts it, and takes `load_onnxruntime` for itself.

`H × W` pixels, `D` embedding.
"""

import argparse
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.graph_level import graph_level
from protoclip.contract.manifest import load_manifest
from protoclip.contract.pixels import load_pixels

Vector = NDArray[np.float32]
Embed = Callable[[bytes], Vector]
"""Bytes of a picture → `[D]`, of unit norm."""


@dataclass(frozen=True)
class Halves:
    """What a request consists of: bytes → uint8 `[H, W, 3]` → `[D]`."""

    pixels: Callable[[bytes], NDArray[np.uint8]]
    encode: Callable[[NDArray[np.uint8]], Vector]

    def embed(self, data: bytes) -> Vector:
        """Both."""
        return self.encode(self.pixels(data))


def load_onnxruntime(artifact: Path, engine_name: str | None) -> Halves:
    """Our preprocessing before one ONNX Runtime session of the engine that Triton serves, with as many threads."""
    import onnxruntime

    manifest = load_manifest(artifact)
    engine = manifest.engine if engine_name is None else manifest.engine_named(engine_name)
    encoder = engine.image_encoder
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    level = graph_level(engine.precision)
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    file = str(artifact / encoder.file)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def encode(pixels: NDArray[np.uint8]) -> Vector:
        vector: Vector = session.run([encoder.output_name], {encoder.input_name: pixels[np.newaxis]})[0][0]
        return vector

    return Halves(lambda data: load_pixels(data, manifest.pixels), encode)


def load_open_clip(name: str) -> Embed:
    """torch in float32, with open_clip's own transforms; random weights are those of our exports."""
    from protoclip.encoders.torchvision_workaround import make_torchvision_importable

    make_torchvision_importable()
    import open_clip
    import torch
    from PIL import Image

    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(name, pretrained_text=False)
    model.eval()

    def embed(data: bytes) -> Vector:
        with torch.inference_mode():
            batch = transform(Image.open(io.BytesIO(data)).convert("RGB")).unsqueeze(0)
            vector: Vector = model.encode_image(batch, normalize=True)[0].numpy()
        return vector

    return embed


def make_app(embed: Embed) -> Any:
    """The whole service."""
    from fastapi import FastAPI, Request, Response
    from fastapi.concurrency import run_in_threadpool

    app = FastAPI()

    @app.post("/embed")
    async def answer(request: Request) -> Response:
        vector = await run_in_threadpool(embed, await request.body())
        return Response(vector.tobytes(), media_type="application/octet-stream")

    return app


def main() -> None:
    """Serves on 127.0.0.1 until a signal."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("by", choices=["onnxruntime", "open_clip"])
    parser.add_argument("model", help="an artifact's folder, or what open_clip takes")
    parser.add_argument("--engine", help="of the artifact; default: the one that is served")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    if given.by == "onnxruntime":
        embed: Embed = load_onnxruntime(Path(given.model), given.engine).embed
    else:
        embed = load_open_clip(given.model)
    uvicorn.run(make_app(embed), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
