"""Reads a folder of transformers' CLIPModel or SiglipModel into one of open_clip's, for export and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.model import CLIP as OpenClip
from open_clip.model import CustomTextCLIP
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from protoclip.contract.errors import ModelError
from protoclip.contract.files import atomic_path
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import WEIGHTS_FILE, ClipModel
from protoclip.encoders.registry import first_line, register_architectures, without_warnings
from protoclip.encoders.siglip_towers import computes_tanh, register_siglip_towers
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE

from .blocks import timm_blocks
from .clip_model import KIND as CLIP
from .clip_model import clip_places
from .converted import Converted
from .json_files import read_json, write_json
from .portable_tokenizer import end_of
from .siglip_model import siglip_places
from .target import check_new, written_by
from .their_config import LEGACY_EOS, Described, clip_model_cfg, describe, siglip_model_cfg
from .their_preprocessing import preprocess_cfg
from .their_tokenizer import copy_tokenizer, is_open_clips
from .weights import Place, to_ours

CONFIG_FILE = "config.json"
_INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
_TORCH_FILE = "pytorch_model.bin"
KIND = "folder of open_clip's"
# Only a name for what lies beside it: open_clip and we take the folder's own files.
_OWN_TOKENIZER = "tokenizer.json"


def read_transformers(folder: Path, out: Path) -> Converted:
    """Writes the model in `folder` to `out`: open_clip_config.json, model.safetensors, and its tokenizer.

    Raises:
        ConfigError: `out` holds something else than a converted model.
        ModelError: a file is missing or damaged, or open_clip computes nothing like it; the message says what.
    """
    check_new(out, OPEN_CLIP_CONFIG_FILE)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {CONFIG_FILE} here: name a folder that transformers' `save_pretrained` wrote"
        )
    try:
        found = describe(read_json(path))
        model_cfg, notes = _model_cfg(found)
    except ModelError as error:
        raise ModelError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    own_words = found.kind == CLIP and is_open_clips(folder, found.text["vocab_size"])
    name = _architecture(model_cfg, own_words)
    if not own_words:
        model_cfg["text_cfg"]["hf_tokenizer_name"] = _OWN_TOKENIZER
    preprocess = preprocess_cfg(folder, model_cfg["vision_cfg"]["image_size"])
    weights = _weights(folder, found, model_cfg)
    with atomic_path(Path(out).resolve()) as made:
        made.mkdir()
        save_file(weights, made / WEIGHTS_FILE)
        identity = name or Path(out).resolve().name
        content = {"model_cfg": model_cfg, "preprocess_cfg": preprocess, "model_name": identity}
        write_json(made / OPEN_CLIP_CONFIG_FILE, content | written_by())
        if not own_words:
            copy_tokenizer(folder, made, found.text["max_position_embeddings"])
        _require_end(load_clip(made), found, path)
    return Converted(Path(out), KIND, (*notes, *_next(name, out)))


def _require_end(clip: ClipModel, found: Described, path: Path) -> None:
    """Raises ModelError where the text's end that the model looks for is not the one its tokenizer writes."""
    eos, end = found.text.get("eos_token_id"), end_of(clip.tokenizer_json)
    if found.kind == CLIP and eos not in (LEGACY_EOS, end):
        raise ModelError(
            f"{path}: text_config.eos_token_id is {eos}, and its tokenizer's texts end in {end}: transformers "
            "takes their first token then: write the number that the model was trained with"
        )


def _model_cfg(found: Described) -> tuple[dict[str, Any], list[str]]:
    if found.kind == CLIP:
        return clip_model_cfg(found), []
    name, notes = _timm_name(found.vision), []
    if computes_tanh(name):
        notes.append(
            "the image encoder computes gelu_pytorch_tanh, as it was trained, and open_clip's SigLIP of this size "
            f"gelu: open_clip by itself does not know {name}, and does not load the folder"
        )
    return siglip_model_cfg(found, name), notes


def _timm_name(vision: dict[str, Any]) -> str:
    """The name of timm's ViT of these sizes and this activation.

    Raises:
        ModelError: there is none.
    """
    register_siglip_towers()
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "layer_norm_eps")
    fitting: dict[str, str] = {}
    for name in timm.list_models("vit_*siglip*"):
        if not name.endswith(f"_{vision['image_size']}") or f"_patch{vision['patch_size']}_" not in name:
            continue
        with torch.device("meta"):
            trunk: Any = timm.create_model(name, num_classes=0, global_pool="map")
        same_patch = trunk.patch_embed.patch_size == (vision["patch_size"],) * 2
        if not same_patch or trunk.patch_embed.img_size != (vision["image_size"],) * 2:
            continue
        fields = timm_blocks(trunk, [trunk.norm], [])
        if all(fields[key] == vision[key] for key in keys):
            fitting.setdefault(fields["hidden_act"], name)
    if not fitting:
        raise ModelError(
            "vision_config: timm has no SigLIP of these sizes, and open_clip builds it by timm's name"
        )
    if (act := vision["hidden_act"]) not in fitting:
        raise ModelError(
            f"vision_config.hidden_act is {act!r}, and timm's SigLIP of these sizes computes "
            f"{', '.join(fitting)}: open_clip builds no other"
        )
    return fitting[act]


def _weights(folder: Path, found: Described, model_cfg: dict[str, Any]) -> dict[str, Tensor]:
    shapes = {name: tensor.shape for name, tensor in _empty(model_cfg).state_dict().items()}
    layers = found.vision["num_hidden_layers"], found.text["num_hidden_layers"]
    places: list[Place] = clip_places(*layers, "") if found.kind == CLIP else siglip_places(*layers)
    try:
        return to_ours(_read_weights(folder), shapes, places, found.kind)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def _empty(model_cfg: dict[str, Any]) -> nn.Module:
    """The model without values, for the sizes of its weights."""
    settings = {name: value for name, value in model_cfg.items() if name != "custom_text"}
    kind = CustomTextCLIP if model_cfg.get("custom_text") else OpenClip
    try:
        with without_warnings(), torch.device("meta"):
            return kind(**settings)
    except Exception as error:  # a bad configuration can raise anything in open_clip or timm
        raise ModelError(
            f"{CONFIG_FILE} describes a model that open_clip can't build: {first_line(error)}"
        ) from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    try:
        if (folder / WEIGHTS_FILE).is_file():
            return load_file(folder / WEIGHTS_FILE)
        if (folder / _INDEX_FILE).is_file():
            files = sorted(set(read_json(folder / _INDEX_FILE)["weight_map"].values()))
            return {name: part for file in files for name, part in load_file(folder / Path(file).name).items()}
        if (folder / _TORCH_FILE).is_file():
            found: dict[str, Tensor] = torch.load(folder / _TORCH_FILE, map_location="cpu", weights_only=True)
            return found
    except ModelError:
        raise
    except Exception as error:  # a damaged file can raise any error in safetensors or torch
        raise ModelError(f"the weights can't be read: {first_line(error)}") from error
    raise ModelError(f"no {WEIGHTS_FILE} here, and no {_TORCH_FILE}")


def _architecture(model_cfg: dict[str, Any], own_words: bool) -> str | None:
    """The name of open_clip's architecture that this is; None where there is none.

    Where the tokenizer is not open_clip's own, only one with a tokenizer of the hub can be it.
    """
    register_architectures()
    wanted = _comparable(model_cfg)
    for name in open_clip.list_models():
        theirs = open_clip.get_model_config(name)
        if _comparable(theirs) == wanted and own_words != bool(theirs["text_cfg"].get("hf_tokenizer_name")):
            return str(name)
    return None


def _comparable(model_cfg: dict[str, Any]) -> dict[str, Any]:
    """Without what is a default, or a name of files, and not of the model."""
    defaults = {"head_width": 64, "mlp_ratio": 4.0, "context_length": 77, "vocab_size": 49408}
    ignored = (
        "hf_tokenizer_name",
        "init_logit_bias",
        "init_logit_scale",
        "timm_model_pretrained",
        "tokenizer_kwargs",
    )

    def plain(part: dict[str, Any]) -> dict[str, Any]:
        return {
            name: plain(value) if isinstance(value, dict) else value
            for name, value in part.items()
            if name not in ignored and (name not in defaults or value != defaults[name])
        }

    return plain(model_cfg)


def _next(name: str | None, out: Path) -> list[str]:
    if name is None:
        return ["open_clip has no architecture like it: it can be exported, but not trained by name"]
    return [f'training begins with it by model.name="{name}" and model.weights="{out}"']
