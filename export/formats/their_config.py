"""config.json of transformers' CLIPModel and SiglipModel as open_clip's configuration of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from protoclip.contract.errors import ModelError

from .blocks import activation
from .clip_model import KIND as CLIP
from .clip_model import image_size
from .siglip_model import KIND as SIGLIP

# What a config.json leaves out has these values, the defaults of transformers' classes.
_LAYERS = {"intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_VISION = {"hidden_size": 768, **_LAYERS, "image_size": 224, "patch_size": 32}
_CLIP_TEXT = {
    **_LAYERS,
    **{"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
    **{"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407},
}
_CLIP_BOTH = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_SIGLIP_VISION = {"hidden_size": 768, **_LAYERS, "image_size": 224, "patch_size": 16, "vision_use_head": True}
_SIGLIP_TEXT = {"hidden_size": 768, **_LAYERS, "vocab_size": 32000, "max_position_embeddings": 64}
_SIGLIP_BOTH = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_SIDES = ("image_size", "patch_size")
_NOT_NUMBERS = ("hidden_act", "vision_use_head", "eos_token_id")
_OPEN_CLIP_EPS = 1e-5
# For transformers the mark of the default: the token with the largest number is the text's end then.
LEGACY_EOS = 2


@dataclass(frozen=True)
class Described:
    """A model of transformers'.

    Attributes:
        kind: the name of its class.
        vision, text: their configuration, defaults filled in.
        embedding_dim: D.
    """

    kind: str
    vision: dict[str, Any]
    text: dict[str, Any]
    embedding_dim: int


def describe(config: dict[str, Any]) -> Described:
    """What a config.json says.

    Raises:
        ModelError: it describes neither a CLIPModel nor a SiglipModel.
    """
    kind = {"clip": CLIP, "siglip": SIGLIP}.get(str(config.get("model_type")))
    if kind is None:
        raise ModelError(
            f"model_type is {config.get('model_type')!r}: CLIPModel ('clip') and SiglipModel ('siglip') are read"
        )
    if kind == CLIP:
        vision, text = (
            _filled(config, "vision", _CLIP_VISION, _CLIP_BOTH),
            _filled(config, "text", _CLIP_TEXT, _CLIP_BOTH),
        )
        dim = config.get("projection_dim", 512)
        _require_number(dim, "projection_dim")
        return Described(kind, vision, text, dim)
    vision = _filled(config, "vision", _SIGLIP_VISION, _SIGLIP_BOTH)
    text = _filled(config, "text", _SIGLIP_TEXT, _SIGLIP_BOTH)
    if not vision["vision_use_head"]:
        raise ModelError("vision_config.vision_use_head is false: open_clip's SigLIP pools by attention")
    return Described(kind, vision, text, int(vision["hidden_size"]))


def clip_model_cfg(found: Described) -> dict[str, Any]:
    """open_clip's `model_cfg` of a CLIPModel.

    Raises:
        ModelError: open_clip's CLIP computes nothing like it.
    """
    vision, text = found.vision, found.text
    quick = {part["hidden_act"] == "quick_gelu" for part in (vision, text)}
    if len(quick) > 1:
        raise ModelError("one tower computes quick_gelu and the other does not: open_clip's compute the same")
    return {
        "embed_dim": found.embedding_dim,
        **({"quick_gelu": True} if True in quick else {}),
        "vision_cfg": {
            "image_size": image_size(vision["image_size"]),
            "layers": vision["num_hidden_layers"],
            "width": vision["hidden_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "patch_size": image_size(vision["patch_size"]),
            **_ratio(vision),
            **_kwargs(vision, "vision_config"),
        },
        "text_cfg": _text_cfg(text) | _end(text),
    }


def siglip_model_cfg(found: Described, timm_name: str) -> dict[str, Any]:
    """open_clip's `model_cfg` of a SiglipModel whose image encoder timm calls `timm_name`."""
    return {
        "embed_dim": found.embedding_dim,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": image_size(found.vision["image_size"]),
            "timm_model_name": timm_name,
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            **_text_cfg(found.text),
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        },
    }


def _text_cfg(text: dict[str, Any]) -> dict[str, Any]:
    return {
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
        "width": text["hidden_size"],
        "heads": text["num_attention_heads"],
        "layers": text["num_hidden_layers"],
        **_ratio(text),
        **_kwargs(text, "text_config"),
    }


def _end(text: dict[str, Any]) -> dict[str, Any]:
    eos = text["eos_token_id"]
    if eos in (LEGACY_EOS, text["vocab_size"] - 1):
        return {}
    if not isinstance(eos, int):
        raise ModelError(f"text_config.eos_token_id is {eos!r}: it must be one number")
    return {"pool_type": "eos", "eos_id": eos}


def _ratio(part: dict[str, Any]) -> dict[str, float]:
    hidden, wanted = part["hidden_size"], part["intermediate_size"]
    ratio = wanted / hidden
    if int(hidden * ratio) < wanted:  # open_clip cuts the product, which may have been rounded down
        ratio = math.nextafter(ratio, math.inf)
    return {} if ratio == 4 else {"mlp_ratio": ratio}


def _kwargs(part: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if part["layer_norm_eps"] != _OPEN_CLIP_EPS:
        found["norm_kwargs"] = {"eps": part["layer_norm_eps"]}
    if part["hidden_act"] != "quick_gelu" and (settings := activation(part["hidden_act"], f"{name}.hidden_act")):
        found["act_kwargs"] = settings
    return found


def _filled(config: dict[str, Any], part: str, *defaults: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for values in (*defaults, config.get(f"{part}_config"), config.get(f"{part}_config_dict")):
        # The last is what transformers wrote before 4.24, and takes precedence there too.
        if values is not None and not isinstance(values, dict):
            raise ModelError(f"{part}_config is a {type(values).__name__}, not an object")
        found |= values or {}
    for field in (name for values in defaults for name in values if name not in _NOT_NUMBERS):
        value, name = found[field], f"{part}_config.{field}"
        sides = value if field in _SIDES and isinstance(value, list) and len(value) == 2 else [value]
        for side in sides:
            _require_number(side, name, whole=field != "layer_norm_eps")
    return found


def _require_number(value: Any, name: str, whole: bool = True) -> None:
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not value > 0:
        raise ModelError(f"{name} is {value!r}: it must be a {'whole ' if whole else ''}number above 0")
