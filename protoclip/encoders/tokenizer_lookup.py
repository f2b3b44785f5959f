"""Tokenizers of open_clip models, by the model's name or folder."""

from __future__ import annotations

import json
from functools import cache

from protoclip.contract.errors import ModelError
from protoclip.contract.text import TextSpec

from .registry import first_line, model_config, register_architectures, without_warnings
from .tokenizer_conversion import text_spec, tokenizer_json
from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first


def tokenizer_for(identifier: str) -> tuple[str, TextSpec]:
    """`tokenizer.json` and the text spec of an open_clip model, by name or `local-dir:` folder.

    Raises:
        ModelError: the tokenizer needs a file that is not on this machine.
    """
    register_architectures()
    if identifier.startswith("local-dir:"):
        return _convert_tokenizer(identifier)
    return _tokenizer_of_name(identifier, json.dumps(open_clip.get_model_config(identifier)))


@cache
def _tokenizer_of_name(name: str, config: str) -> tuple[str, TextSpec]:
    """Cached: converting a tokenizer takes a quarter of a second. `config` is that of the model called `name`."""
    return _convert_tokenizer(name)


def _convert_tokenizer(identifier: str) -> tuple[str, TextSpec]:
    try:
        with without_warnings():
            tokenizer = open_clip.get_tokenizer(identifier)
    except Exception as error:  # transformers and the hub's client can raise any error
        raise ModelError(f"model {identifier!r} {_tokenizer_problem(identifier, error)}") from error
    return tokenizer_json(tokenizer), text_spec(tokenizer)


def _tokenizer_problem(identifier: str, error: Exception) -> str:
    text = model_config(identifier).get("text_cfg", {})
    hub = text.get("hf_tokenizer_name")
    if not hub:
        return f"has a tokenizer that can't be loaded: {first_line(error)}"
    needs = f"needs the tokenizer {hub} of the Hugging Face hub"
    if isinstance(error, ImportError) and error.name == "transformers":
        return f"{needs}: pip install transformers; `protoclip export --tokenizer FILE` takes its file"
    if identifier.startswith("local-dir:"):
        folder = identifier.removeprefix("local-dir:")
        return f"{needs}: copy tokenizer.json and tokenizer_config.json of {hub} into {folder}"
    return (
        f"{needs}, which is not on this machine: `protoclip export --tokenizer FILE` takes it; or once, with a "
        f"network, `hf download {hub} --include '*token*' --include config.json` ({first_line(error)})"
    )
