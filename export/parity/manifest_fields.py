"""Every field of a manifest that decides an answer, compared with the model that the artifact was made from.

`FIELDS`, `ENGINE_FIELDS` and `ENCODER_FIELDS` say of each field what checks it; a test keeps them complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from protoclip.contract.manifest import Manifest
from protoclip.encoders.model import ClipModel

from .checks import Check, bounded

FIELDS: Mapping[str, str] = {
    "schema_version": "reading the manifest",
    "name": "decides no answer: names the served models",
    "fingerprint": "opening the artifact: is that of the model",
    "source": "decides no answer: is printed",
    "embedding_dim": "check embedding_dim",
    "pixels": "checks pixels and image, from files",
    "mean": "check mean and std",
    "std": "check mean and std",
    "text": "checks text and tokens",
    "tokenizer_file": "check tokens",
    "tokenizer_sha256": "opening the artifact",
    "engines": "ENGINE_FIELDS",
    "default_engine": "reading the manifest: is one of the engines, each of which is judged",
    "temperature": "check temperature",
    "logit_bias": "check logit_bias",
    "probabilities": "check probabilities",
    "opset": "check graphs of the float32 engine",
    "ir_version": "check graphs of the float32 engine",
    "versions": "decides no answer: is for people",
    "created_at": "decides no answer: is for people",
    "golden": "decides no answer: protoclip deploy compares what is served with it",
    "detector": "opening it: the file says the same; and check detector of every engine",
}
ENGINE_FIELDS: Mapping[str, str] = {
    "name": "check graphs: says format and precision",
    "format": "the files are opened as such",
    "precision": "check graphs, and the gate of that precision",
    "image_encoder": "ENCODER_FIELDS",
    "text_encoder": "ENCODER_FIELDS",
    "verdict": "check verdicts, against verdict.json; and all checks of the engine find it anew",
    "build": "the plan is opened by that builder, and run up to its largest batch",
    "inference_precision": "opening the engine, which computes in nothing else",
    "pictures_per_s": "decides no answer: is a measurement",
}
ENCODER_FIELDS: Mapping[str, str] = {
    "file": "check graphs, and every comparison runs this file",
    "sha256": "opening the artifact",
    "input_name": "check graphs, and every comparison feeds it",
    "output_name": "check graphs, and every comparison takes it",
    "data_file": "opening the artifact, and every comparison",
    "data_sha256": "opening the artifact",
}
_LOGITS_TOLERANCE = 1e-5


def check_fields(manifest: Manifest, clip: ClipModel) -> list[Check]:
    """The checks of the manifest's own values, each against what torch computes with."""
    # As open_clip's own forward pass takes it, so that a mistake in our description of the model is seen too.
    factor = float(clip.module.logit_scale.exp())  # type: ignore[operator]
    return [
        _equal("embedding_dim", manifest.embedding_dim, clip.embedding_dim),
        *_described("pixels", asdict(manifest.pixels), asdict(clip.pixels)),
        *_described("text", asdict(manifest.text), asdict(clip.text)),
        _close("mean and std", (*manifest.mean, *manifest.std), (*clip.mean, *clip.std)),
        _close("temperature", (manifest.temperature,), (factor,)),
        _same_bias(manifest.logit_bias, clip.logit_bias),
        _equal("probabilities", manifest.probabilities, clip.probabilities),
    ]


def _described(name: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[Check]:
    wrong = [field for field in expected if found[field] != expected[field]]
    words = "; ".join(f"{field} is {found[field]!r}, and the model's {expected[field]!r}" for field in wrong)
    return [bounded(name, not wrong, f"{words}", ", ".join(wrong) or "equal", "equal")]


def _same_bias(found: float | None, expected: float | None) -> Check:
    if found is None or expected is None:
        return _equal("logit_bias", found, expected)
    return _close("logit_bias", (found,), (expected,))


def _equal(name: str, found: object, expected: object) -> Check:
    words = f"the manifest says {found}, and the model has {expected}"
    return bounded(name, found == expected, words, str(found), str(expected))


def _close(name: str, found: tuple[float, ...], expected: tuple[float, ...]) -> Check:
    close = all(
        math.isclose(one, other, rel_tol=_LOGITS_TOLERANCE, abs_tol=1e-9)
        for one, other in zip(found, expected, strict=True)
    )
    shown = [", ".join(f"{value:.7g}" for value in values) for values in (found, expected)]
    words = f"the manifest says {shown[0]}, and the model has {shown[1]}"
    return bounded(name, close, words, *shown)
