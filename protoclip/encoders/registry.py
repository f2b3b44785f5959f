"""open_clip's architectures, ours included, and helpers for calling open_clip."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ModelError

from .siglip_towers import register_siglip_towers
from .small_resnet import register_small_resnet
from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first


@cache
def register_architectures() -> None:
    """Adds the architectures that ship with ProtoCLIP to open_clip's list, and to timm's those of its towers."""
    register_siglip_towers()
    register_small_resnet()
    open_clip.add_model_config(Path(str(files("protoclip.encoders") / "architectures")))


def model_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of the model called `name`.

    Raises:
        ModelError: there is no such model; the message names the nearest ones.
    """
    register_architectures()
    config = open_clip.get_model_config(name)
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`open_clip.list_models()` lists them"
        raise ModelError(f"model {name!r} is unknown, and there is no folder of that name: {hint}")
    return json.loads(json.dumps(config))


@contextmanager
def without_warnings() -> Iterator[None]:
    """open_clip warns on the root logger that weights are random, even where random weights are wanted."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and "loading state_dict" in lines[0]:
        return f"the weights are another model's: {lines[1].strip()[:160]}"
    line = next(iter(lines), "")
    says_all = isinstance(error, ModelError | RuntimeError | OSError | ImportError) and line
    return line if says_all else f"{type(error).__name__}: {line}".removesuffix(": ")
