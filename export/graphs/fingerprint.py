"""The fingerprint: a hash of everything that determines a picture's or a text's embedding."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import torch

from protoclip.contract.pixels import PixelSpec
from protoclip.encoders.model import ClipModel


def fingerprint(clip: ClipModel) -> str:
    """SHA-256 over weights, architecture, preprocessing and tokenizer, 64 hexadecimal digits.

    The architecture is included because the weights alone don't determine it: the same weights with QuickGELU
    and with GELU are two models. Names, times and versions are not included.
    """
    digest = hashlib.sha256()
    settings: dict[str, Any] = {
        "architecture": clip.model_config,
        "pixels": _pixels(clip.pixels),
        "mean": clip.mean,
        "std": clip.std,
        "text": asdict(clip.text),
        "tokenizer": clip.tokenizer_json,
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(clip.module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _pixels(spec: PixelSpec) -> dict[str, Any]:
    settings = asdict(spec)
    if spec.color_management == "stored":
        del settings["color_management"]  # younger than the first artifacts, whose fingerprints must hold
    return settings
