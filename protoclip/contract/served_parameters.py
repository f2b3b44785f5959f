"""A served model's parameters, in Triton's model configuration or without a server."""

from __future__ import annotations

from .manifest import Engine, Manifest
from .served_detector import DETECTOR, ServedDetector

MAX_BATCH_SIZE = 64
"""Most items in a request, unless something else is asked for."""
ALIAS, CURRENT, CANARY, CANARY_SHARE = "alias", "current", "canary", "canary_share"
"""An alias has these parameters beside those of its current model: its own name; the prefix of that model's names;
what a share of the clients gets instead; and that share, from 0 to 1."""


def served_parameters(manifest: Manifest, engine: Engine) -> dict[str, str]:
    """The parameters of a public model, from which a client recognises it; `engine` is the one that is served."""
    bias = manifest.logit_bias
    found = {
        "protoclip_name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "embedding_dim": str(manifest.embedding_dim),
        "temperature": repr(manifest.temperature),
        "logit_bias": "" if bias is None else repr(bias),
        "probabilities": manifest.probabilities,
        "engine": engine.name,
        "precision": engine.precision,
        "verdict": "passed" if engine.verdict.passed else "failed",
    }
    if (carried := manifest.detector) is not None:
        found[DETECTOR] = ServedDetector(carried.kind, carried.threshold, carried.accept).to_parameter()
    return found
