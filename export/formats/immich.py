"""The folder that Immich's machine-learning service loads in place of one of its CLIP models.

The service resizes and normalises pictures itself, with Pillow, and hands over one as float32; of a text it
collapses blanks, and gives the tokens as int32. It looks for the folder by the names of its own list of models.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.graphs.encoders import ImageEncoder, TextEncoder, example_pixels, example_tokens
from export.graphs.precision import engine_name
from export.graphs.runtime import open_encoder
from export.graphs.to_onnx import IMAGE, MAX_EMBEDDED_BYTES, TEXT, Signature, write_onnx
from protoclip.contract.errors import ModelError, VerdictError
from protoclip.contract.files import atomic_path, write_text
from protoclip.contract.manifest import Manifest, check_files, load_manifest
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.progress import Progress, silent
from protoclip.contract.text import TextSpec
from protoclip.encoders.model import ClipModel

from .converted import Converted
from .json_files import write_json
from .normalised_input import rename_input, take_normalised
from .portable_tokenizer import padding_of, portable_tokenizer
from .target import check_new, written_by

CONFIG_FILE = "config.json"
KIND = "model for Immich"
_IMAGE_INPUT, _TEXT_INPUT = "image", "text"
_TOLERANCE = 1e-5
# As its list of models has them.
_DIMENSIONS = {
    512: "ViT-B-32__openai",
    640: "RN50x4__openai",
    768: "ViT-L-14__openai",
    1024: "ViT-H-14__laion2b-s32b-b79k",
    1152: "ViT-SO400M-16-SigLIP2-256__webli",
    1536: "ViT-gopt-16-SigLIP2-256__webli",
}


@dataclass(frozen=True)
class Parts:
    """What is written, wherever it comes from; the graphs are those of our artifacts, in float32."""

    name: str
    pixels: PixelSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    text: TextSpec
    tokenizer_json: str
    embedding_dim: int
    image: Path
    text_graph: Path


def write_immich(clip: ClipModel, out: Path, progress: Progress = silent) -> Converted:
    """Writes `clip` to the folder `out`, which is replaced only at the very end.

    Raises:
        ConfigError: `out` holds something else than a converted model.
        ModelError: the model can't be exported, or the service prepares no picture or text as it wants them.
        VerdictError: a graph gives something else than before it was adapted.
    """
    check_new(out, CONFIG_FILE)
    _check(clip.pixels, clip.model_name)
    with tempfile.TemporaryDirectory() as folder:
        image, text = Path(folder) / IMAGE.file, Path(folder) / TEXT.file
        progress("writing ONNX", 0, 2)
        write_onnx(ImageEncoder(clip), example_pixels(clip), image, IMAGE)
        progress("writing ONNX", 1, 2)
        write_onnx(TextEncoder(clip), example_tokens(clip), text, TEXT)
        progress("writing ONNX", 2, 2)
        spec = (clip.pixels, clip.mean, clip.std, clip.text, clip.tokenizer_json, clip.embedding_dim)
        return _write(Parts(clip.model_name, *spec, image, text), out)


def write_immich_of_artifact(artifact: Path, out: Path) -> Converted:
    """As `write_immich`, from an artifact's float32 engine, which its verdict is about.

    Raises:
        ModelError: also where a file of the artifact is missing, or was changed.
    """
    check_new(out, CONFIG_FILE)
    manifest = load_manifest(artifact)
    _check(manifest.pixels, manifest.name)
    engine = manifest.engine_named(engine_name("fp32"))
    check_files(artifact, engine.files() | {manifest.tokenizer_file: manifest.tokenizer_sha256})
    return _write(_parts(artifact, manifest), out)


def _parts(artifact: Path, manifest: Manifest) -> Parts:
    engine = manifest.engine_named(engine_name("fp32"))
    return Parts(
        manifest.name,
        manifest.pixels,
        manifest.mean,
        manifest.std,
        manifest.text,
        (artifact / manifest.tokenizer_file).read_text(encoding="utf-8"),
        manifest.embedding_dim,
        artifact / engine.image_encoder.file,
        artifact / engine.text_encoder.file,
    )


def _check(pixels: PixelSpec, name: str) -> None:
    if pixels.resize == "longest" or pixels.height != pixels.width:
        raise ModelError(
            f"{name}: can't be written for Immich, which crops or squashes pictures to squares, and pads none: "
            f"the model takes {pixels.width} x {pixels.height} pixels by resize mode {pixels.resize!r}"
        )


def _write(parts: Parts, out: Path) -> Converted:
    size = (parts.pixels.height, parts.pixels.width)
    with atomic_path(Path(out).resolve()) as folder:
        visual, textual = folder / "visual", folder / "textual"
        for place in (visual, textual):
            place.mkdir(parents=True)
        take_normalised(parts.image, visual / "model.onnx", _IMAGE_INPUT, size, MAX_EMBEDDED_BYTES)
        rename_input(parts.text_graph, textual / "model.onnx", _TEXT_INPUT, MAX_EMBEDDED_BYTES)
        _require_same_rows(parts, folder)
        write_json(visual / "preprocess_cfg.json", _preprocess(parts))
        write_text(textual / "tokenizer.json", portable_tokenizer(parts.tokenizer_json, parts.text).to_str())
        write_json(textual / "tokenizer_config.json", _tokenizer_config(parts))
        write_json(folder / CONFIG_FILE, _config(parts) | written_by())
    return Converted(Path(out), KIND, tuple(_notes(parts)))


def _require_same_rows(parts: Parts, folder: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, parts.pixels.height, parts.pixels.width, 3), dtype=np.uint8)
    tokens = rng.integers(0, 2, (2, parts.text.context_length), dtype=np.int32)
    mean, std = (np.array(part, dtype=np.float32).reshape(3, 1, 1) for part in (parts.mean, parts.std))
    images = (pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255) - mean) / std
    new_image = Signature("visual/model.onnx", _IMAGE_INPUT, IMAGE.output_name)
    new_text = Signature("textual/model.onnx", _TEXT_INPUT, TEXT.output_name)
    for before, path, batch, after, adapted in (
        (IMAGE, parts.image, pixels, new_image, images),
        (TEXT, parts.text_graph, tokens, new_text, tokens),
    ):
        expected = open_encoder(path, before)(batch)
        found = open_encoder(folder / after.file, after)(adapted)
        difference = float(np.abs(found - expected).max())
        if not difference <= _TOLERANCE:
            raise VerdictError(f"{after.file}: differs from {before.file} by {difference:.1e}: nothing is written")


def _preprocess(parts: Parts) -> dict[str, Any]:
    return {
        "size": [parts.pixels.height, parts.pixels.width],
        "mode": "RGB",
        "mean": list(parts.mean),
        "std": list(parts.std),
        "interpolation": parts.pixels.interpolation,
        "resize_mode": parts.pixels.resize,
        "fill_color": 0,
    }


def _tokenizer_config(parts: Parts) -> dict[str, Any]:
    number, token, side = padding_of(parts.tokenizer_json)
    import tokenizers

    if side != "right" or tokenizers.Tokenizer.from_str(parts.tokenizer_json).token_to_id(token) != number:
        raise ModelError(
            f"{parts.name}: can't be written for Immich, which can't pad with {token!r} on the {side}"
        )
    return {"pad_token": token, "model_max_length": parts.text.context_length}


def _config(parts: Parts) -> dict[str, Any]:
    # Without the cleaner, which the service would apply by its own rules: tokenizer.json cleans.
    return {
        "embed_dim": parts.embedding_dim,
        "vision_cfg": {"image_size": parts.pixels.height},
        "text_cfg": {"context_length": parts.text.context_length},
    }


def _notes(parts: Parts) -> list[str]:
    name = _DIMENSIONS.get(parts.embedding_dim)
    if name is None:
        known = ", ".join(map(str, _DIMENSIONS))
        return [
            f"embeddings have {parts.embedding_dim} dimensions, and the models on Immich's list one of {known}: "
            "a server without changes can't store them"
        ]
    return [f"put it where Immich looks for a model of {parts.embedding_dim} dimensions: model-cache/clip/{name}"]
