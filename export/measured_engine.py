"""Evaluates an engine instead of the model that it was exported from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export.graphs.runtime import Encode
from protoclip.contract.errors import ModelError
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel

from .listed_engines import open_listed
from .verify_artifact import open_artifact


@dataclass(frozen=True)
class MeasuredEngine:
    """An engine as a `MeasuredModel` of `protoclip.evaluation`."""

    source: str
    model_name: str
    embedding_dim: int
    pixels: PixelSpec
    tokenizer: Tokenizer
    embed_pixels: Encode
    embed_tokens: Encode
    temperature: float
    logit_bias: float | None


def measured_engine(folder: Path, name: str | None, clip: ClipModel | None) -> MeasuredEngine:
    """The engine called `name`, or the default one, of an artifact that was made from `clip`.

    Without `clip` the artifact is taken as it is: its files are checked, not what they were made from.

    Raises:
        ModelError: as `open_artifact`, no such engine, one that can't be loaded, or a plan.
        ConfigError: an OpenVINO engine that can't be run here.
    """
    manifest = open_artifact(folder, clip)
    engine = manifest.engine if name is None else manifest.engine_named(name)
    if engine.format not in ("onnx", "openvino"):
        raise ModelError(
            f"{folder}: engine {engine.name} is a plan: `protoclip verify` compares it on its GPU; "
            "its ONNX engine can be evaluated"
        )
    encoders = open_listed(folder, engine)
    text = (folder / manifest.tokenizer_file).read_text(encoding="utf-8")
    return MeasuredEngine(
        source=engine.name,
        model_name=manifest.source if clip is None else clip.model_name,
        embedding_dim=manifest.embedding_dim,
        pixels=manifest.pixels,
        tokenizer=Tokenizer(text, manifest.text),
        embed_pixels=encoders.image,
        embed_tokens=encoders.text,
        temperature=manifest.temperature,
        logit_bias=manifest.logit_bias,
    )
