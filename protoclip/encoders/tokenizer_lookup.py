"""Tokenizers of open_clip models, by the model's name or folder."""

from __future__ import annotations

import importlib.util
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from protoclip.config.weights_names import HUB
from protoclip.contract.errors import ModelError
from protoclip.contract.text import TextSpec

from .hub import TOKENIZER_FILES, tokenizer_folder
from .registry import first_line, register_architectures, without_warnings
from .tokenizer_conversion import text_spec, tokenizer_json
from .tokenizer_file import tokenizer_from_file
from .torchvision_workaround import make_torchvision_importable
from .weights import hub_model, read_folder_config

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

LOCAL = "local-dir:"


def tokenizer_for(identifier: str, *, fetch: bool = False) -> tuple[str, TextSpec]:
    """`tokenizer.json` and the text spec of an open_clip model, by name, `local-dir:` folder or `hf-hub:org/name`.

    Args:
        fetch: download the tokenizer from the hub where it is there and not in the cache, as the model's weights
            were; of `hf-hub:` that is always done.

    Raises:
        ModelError: the tokenizer needs a file that is not on this machine, or can't be downloaded.
    """
    register_architectures()
    if identifier.startswith((LOCAL, HUB)):
        return _convert_tokenizer(identifier, fetch=identifier.startswith(HUB))
    return _tokenizer_of_name(identifier, json.dumps(open_clip.get_model_config(identifier)), fetch)


@cache
def _tokenizer_of_name(name: str, config: str, fetch: bool) -> tuple[str, TextSpec]:
    """Cached: converting a tokenizer takes a quarter of a second. `config` is that of the model called `name`."""
    return _convert_tokenizer(name, fetch)


def _convert_tokenizer(identifier: str, fetch: bool) -> tuple[str, TextSpec]:
    folder = _hub_folder(identifier, fetch)
    if folder is not None and not _has_transformers():
        return tokenizer_from_file(folder / TOKENIZER_FILES[0], _text_config(identifier))
    tokenizer = open_clip_tokenizer(identifier, fetch=fetch)
    return tokenizer_json(tokenizer), text_spec(tokenizer)


def open_clip_tokenizer(identifier: str, *, fetch: bool = False, local_only: bool = False) -> Any:
    """open_clip's own tokenizer of a model; arguments as `tokenizer_for`.

    Args:
        local_only: ask nobody; without it open_clip may ask the hub.

    Raises:
        ModelError: as there, and where it needs transformers and that is not installed.
    """
    register_architectures()
    folder = _hub_folder(identifier, fetch)
    if folder is not None:
        return _by_transformers(folder, _text_config(identifier))
    hub = _text_config(identifier).get("hf_tokenizer_name")
    if local_only and hub and not identifier.startswith(LOCAL):
        raise ModelError(
            f"model {identifier!r} needs the tokenizer {hub} of the hub, which is not on this machine"
        )
    if identifier.startswith(HUB) and not _text_config(identifier).get("hf_tokenizer_name"):
        identifier = f"{LOCAL}{hub_model(identifier)}"  # asks nobody, and the tokenizer is open_clip's own
    try:
        with without_warnings():
            if hub or identifier.startswith(LOCAL):
                return open_clip.get_tokenizer(identifier)
            return _own_tokenizer(identifier, json.dumps(open_clip.get_model_config(identifier)))
    except Exception as error:  # transformers and the hub's client can raise any error
        raise ModelError(f"model {identifier!r} {_tokenizer_problem(identifier, error)}") from error


@lru_cache(maxsize=4)
def _own_tokenizer(name: str, config: str) -> Any:
    """Cached: reading its words takes a tenth of a second. `config` is that of the model called `name`."""
    return open_clip.get_tokenizer(name)


def _hub_folder(identifier: str, fetch: bool) -> Path | None:
    """The folder with the hub's tokenizer of the model: of a folder itself, of others in the hub's cache.

    None where the model has none of the hub's, or it is not there.
    """
    repository = _text_config(identifier).get("hf_tokenizer_name")
    if not repository:
        return None
    if identifier.startswith(LOCAL):
        folder = Path(identifier.removeprefix(LOCAL))
        return folder if (folder / TOKENIZER_FILES[0]).is_file() else None
    return tokenizer_folder(repository, fetch=fetch)


def _by_transformers(folder: Path, text: dict[str, Any]) -> Any:
    """As open_clip makes it."""
    if not _has_transformers():
        raise ModelError(f"open_clip's tokenizer {folder} needs transformers: pip install transformers")
    try:
        with without_warnings():
            return open_clip.tokenizer.HFTokenizer(
                str(folder),
                context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
                tokenizer_mode=text.get("tokenizer_mode"),
                **text.get("tokenizer_kwargs", {}),
            )
    except Exception as error:  # transformers can raise any error
        raise ModelError(f"tokenizer {folder}: can't be loaded: {first_line(error)}") from error


def _has_transformers() -> bool:
    return importlib.util.find_spec("transformers") is not None


def _text_config(identifier: str) -> dict[str, Any]:
    if identifier.startswith(HUB):
        config = read_folder_config(hub_model(identifier))["model_cfg"]
    else:
        config = open_clip.get_model_config(identifier) or {}
    found = config.get("text_cfg", {})
    return found if isinstance(found, dict) else {}


def _tokenizer_problem(identifier: str, error: Exception) -> str:
    hub = _text_config(identifier).get("hf_tokenizer_name")
    if not hub:
        return f"has a tokenizer that can't be loaded: {first_line(error)}"
    needs = f"needs the tokenizer {hub} of the Hugging Face hub"
    if isinstance(error, ImportError) and error.name == "transformers":
        return f"{needs}: pip install transformers; `protoclip export --tokenizer FILE` takes its file"
    if identifier.startswith(LOCAL):
        folder = identifier.removeprefix(LOCAL)
        return f"{needs}: copy tokenizer.json and tokenizer_config.json of {hub} into {folder}"
    return (
        f"{needs}, which is not on this machine: `protoclip export --tokenizer FILE` takes it; or once, with a "
        f"network, `hf download {hub} --include '*token*' --include config.json` ({first_line(error)})"
    )
