"""open_clip models as transformers' CLIPModel: a plain ViT with a class token and a causal text tower."""

from __future__ import annotations

from typing import Any

from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import Tensor, nn

from protoclip.contract.errors import ModelError
from protoclip.encoders.model import ClipModel

from .blocks import open_clip_blocks
from .weights import Place, attention, pair

KIND = "CLIPModel"


def clip_config(clip: ClipModel) -> dict[str, Any]:
    """The towers' part of a CLIPModel's config.json, without the numbers of special tokens.

    Raises:
        ModelError: CLIPModel computes something else than this model; the message says what.
    """
    module: Any = clip.module
    if not isinstance(module, CLIP | CustomTextCLIP):
        raise ModelError(f"it is a {type(module).__name__}")
    return {
        "architectures": [KIND],
        "model_type": "clip",
        "projection_dim": clip.embedding_dim,
        "logit_scale_init_value": float(module.logit_scale.detach()),
        "vision_config": {"model_type": "clip_vision_model"} | _vision(module.visual) | _projection(clip),
        "text_config": {"model_type": "clip_text_model"} | _text(module) | _projection(clip),
    }


def clip_places(vision_layers: int, text_layers: int, text: str) -> list[Place]:
    """Where the weights stand; `text` is the prefix of open_clip's text tower, "" or "text."."""
    theirs = "vision_model.embeddings"
    return [
        Place(("logit_scale",), ("logit_scale",), dims=0),
        Place(("visual.class_embedding",), (f"{theirs}.class_embedding",)),
        Place(("visual.positional_embedding",), (f"{theirs}.position_embedding.weight",)),
        Place(("visual.conv1.weight",), (f"{theirs}.patch_embedding.weight",)),
        Place(("visual.proj",), ("visual_projection.weight",), transposed=True),
        *pair("visual.ln_pre", "vision_model.pre_layrnorm"),
        *pair("visual.ln_post", "vision_model.post_layernorm"),
        *transformer_places("visual.transformer", "vision_model.encoder", vision_layers),
        *text_places(text, text_layers),
        Place((f"{text}text_projection",), ("text_projection.weight",), transposed=True),
    ]


def text_places(text: str, layers: int) -> list[Place]:
    """Those of open_clip's text tower, but for its projection."""
    theirs = "text_model.embeddings"
    return [
        Place((f"{text}token_embedding.weight",), (f"{theirs}.token_embedding.weight",)),
        Place((f"{text}positional_embedding",), (f"{theirs}.position_embedding.weight",)),
        *pair(f"{text}ln_final", "text_model.final_layer_norm"),
        *transformer_places(f"{text}transformer", "text_model.encoder", layers),
    ]


def transformer_places(ours: str, theirs: str, layers: int) -> list[Place]:
    """Those of open_clip's own transformer."""
    return [place for layer in range(layers) for place in _block(ours, theirs, layer)]


def text_prefix(module: nn.Module) -> str:
    """Of the names of open_clip's text tower, in its state dict."""
    return "" if isinstance(module, CLIP) else "text."


def text_tower(module: Any) -> dict[str, Any]:
    """open_clip's text tower as configuration, with all fields that CLIP and SigLIP share.

    Raises:
        ModelError: a tower of another library's, or with extra parts.
    """
    tower = module if isinstance(module, CLIP) else module.text
    if not isinstance(tower, CLIP | TextTransformer):
        raise ModelError(f"its text encoder is a {type(tower).__name__}, not open_clip's own transformer")
    if getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False):
        raise ModelError("its text encoder has a class token or masks its padding")
    return open_clip_blocks(tower.transformer, [tower.ln_final], "text encoder") | {
        "vocab_size": tower.token_embedding.num_embeddings,
        "max_position_embeddings": len(tower.positional_embedding),
    }


def end_token(module: Any) -> int | None:
    """The token that the text tower takes; None: the one with the largest number."""
    if isinstance(module, CLIP):
        return int(module.text_eos_id) if module.text_pool_type == "eos" else None
    return int(module.text.eos_id) if module.text.pool_type == "eos" else None


def image_size(size: tuple[int, int] | int, tower: str = "image encoder") -> int:
    """A square's side; raises ModelError for other shapes."""
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ModelError(f"its {tower} takes {height} x {width}, and the format squares only")
    return height


def _block(ours: str, theirs: str, layer: int) -> list[Place]:
    ours, theirs = f"{ours}.resblocks.{layer}", f"{theirs}.layers.{layer}"
    return [
        *pair(f"{ours}.ln_1", f"{theirs}.layer_norm1"),
        *pair(f"{ours}.ln_2", f"{theirs}.layer_norm2"),
        *attention(f"{ours}.attn", f"{theirs}.self_attn", ".in_proj_"),
        *pair(f"{ours}.attn.out_proj", f"{theirs}.self_attn.out_proj"),
        *pair(f"{ours}.mlp.c_fc", f"{theirs}.mlp.fc1"),
        *pair(f"{ours}.mlp.c_proj", f"{theirs}.mlp.fc2"),
    ]


def _projection(clip: ClipModel) -> dict[str, Any]:
    return {"projection_dim": clip.embedding_dim}


def _vision(visual: Any) -> dict[str, Any]:
    if not isinstance(visual, VisionTransformer):
        trunk = getattr(visual, "trunk", visual)
        library, kind = type(trunk).__module__.split(".")[0], type(trunk).__name__
        raise ModelError(f"its image encoder is {library}'s {kind}, not open_clip's plain ViT")
    if visual.attn_pool is not None or visual.pool_type != "tok":
        raise ModelError("its image encoder pools by attention or averages, not by a class token")
    fields = open_clip_blocks(visual.transformer, [visual.ln_pre, visual.ln_post], "image encoder")
    size, patch = image_size(visual.image_size), image_size(visual.patch_size)
    return fields | {"image_size": size, "patch_size": patch, "num_channels": 3}


def _text(module: Any) -> dict[str, Any]:
    fields = text_tower(module)
    tower = module if isinstance(module, CLIP) else module.text
    if tower.attn_mask is None:
        raise ModelError("its text encoder has no causal mask")
    pool = module.text_pool_type if isinstance(module, CLIP) else tower.pool_type
    if pool not in ("argmax", "eos"):
        raise ModelError(f"its text encoder takes the {pool} token, and CLIPModel that of the text's end")
    if not isinstance(tower.text_projection, Tensor):
        raise ModelError("its text encoder ends in no projection, or in one with a bias")
    return fields
