"""The weights that open_clip knows by name and tag, and what they were published with."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ModelError

from .hub import cached_file, hub_weights
from .registry import model_config, register_architectures
from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")
_DEFAULT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TWIN = "-quickgelu"


@dataclass(frozen=True)
class Published:
    """Weights of a tag.

    Attributes:
        name: the model that they belong to.
        repository: of the hub, `org/name`; None where open_clip knows a URL only.
        files: names that the weights have there, the preferred one first.
        preprocess: `mean`, `std`, `interpolation` and `resize_mode` of the pictures that they learned from.
        quick_gelu: whether they were trained with QuickGELU.
    """

    name: str
    tag: str
    repository: str | None
    files: tuple[str, ...]
    preprocess: dict[str, Any]
    quick_gelu: bool

    def cached(self) -> Path | None:
        """The weights in the hub's cache, None where they are not; asks nobody."""
        if self.repository is None:
            return None
        found = (cached_file(self.repository, name) for name in self.files)
        return next((path for path in found if path is not None), None)

    def fetch(self) -> Path:
        """The weights from the cache, or else downloaded; raises as `hub_weights`."""
        if self.repository is None:
            raise ModelError(
                f"weights {self.tag!r} of {self.name} are not on the hub: download them, and name the file"
            )
        return hub_weights(self.repository, self.files)


def published(name: str, tag: str) -> Published:
    """What open_clip knows of the weights `tag` of the model `name`.

    Raises:
        ModelError: there is no such model, or none of its weights has that tag; the message names the nearest.
    """
    model_config(name)
    known = {key.lower().replace("-", "_"): key for key in published_tags(name)}
    found = known.get(tag.lower().replace("-", "_"))
    if found is None:
        raise ModelError(_unknown(name, tag, list(known.values())))
    values = open_clip.get_pretrained_cfg(name, found)
    repository, _, file = values.get("hf_hub", "").rpartition("/")
    return Published(
        name=name,
        tag=found,
        repository=repository or None,
        files=(f"{Path(file).stem}.safetensors", file) if file else _DEFAULT_FILES,
        preprocess={key: values[key] for key in PREPROCESS_KEYS if key in values},
        quick_gelu=bool(values.get("quick_gelu", False)),
    )


def published_tags(name: str) -> list[str]:
    """Tags of the model's weights, as open_clip orders them; none for a model without any."""
    register_architectures()
    found: list[str] = open_clip.list_pretrained_tags_by_model(name)
    return found


def uses_quick_gelu(config: dict[str, Any]) -> bool:
    """Whether a model of this configuration computes QuickGELU where it could compute GELU."""
    return bool(config.get("quick_gelu", False))


def with_quick_gelu(name: str) -> str | None:
    """The model that differs from `name` by QuickGELU alone; None where open_clip has none."""
    twin = f"{name}{_TWIN}"
    return twin if twin in open_clip.list_models() else None


def _unknown(name: str, tag: str, tags: list[str]) -> str:
    others = open_clip.list_pretrained_models_by_tag(tag)
    if not tags:
        hint = f"nothing is published for {name}"
    elif near := difflib.get_close_matches(tag, tags, n=3, cutoff=0.5):
        hint = f"did you mean {', '.join(near)}?"
    elif others:
        hint = f"they are published for {', '.join(others[:4])}"
    else:
        hint = f"`protoclip models {name}` lists those there are"
    return f"weights {tag!r} of {name} are unknown: {hint}; a file or folder is named with its path, ./{tag}"
