"""What a tower's layers are, read from its modules: configurations leave most of it to defaults.

Both kinds give the fields of a transformers configuration, or raise a ModelError that says why there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from open_clip.transformer import QuickGELU, ResidualAttentionBlock, Transformer
from timm.models.vision_transformer import Block
from torch import nn

from protoclip.contract.errors import ModelError


def open_clip_blocks(transformer: Transformer, norms: Sequence[nn.Module], tower: str) -> dict[str, Any]:
    """The fields of open_clip's own transformer; `norms` are the LayerNorms around it.

    Raises:
        ModelError: layers that differ from those of the original CLIP.
    """
    blocks = list(transformer.resblocks)
    for block in blocks:
        if type(block) is not ResidualAttentionBlock or not _plain(block.ls_1, block.ls_2):
            raise ModelError(f"its {tower} has layers of another kind than the original CLIP's (layer scale, …)")
    norms = [*norms, *(norm for block in blocks for norm in (block.ln_1, block.ln_2))]
    return {
        "hidden_size": transformer.width,
        "intermediate_size": blocks[0].mlp.c_fc.out_features,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": blocks[0].attn.num_heads,
        "hidden_act": _activation([block.mlp.gelu for block in blocks], tower),
        "layer_norm_eps": _eps(norms, tower),
    }


def timm_blocks(trunk: Any, norms: Sequence[nn.Module], acts: Sequence[nn.Module]) -> dict[str, Any]:
    """The fields of a ViT of timm's; `norms` and `acts` are those outside of its blocks.

    Raises:
        ModelError: layers that differ from those of SigLIP.
    """
    tower = "image encoder"
    blocks: list[Any] = list(trunk.blocks)
    for block in blocks:
        extras = (block.ls1, block.ls2, block.attn.q_norm, block.attn.k_norm, block.attn.norm, block.mlp.norm)
        if block.attn.qkv.bias is None or not _plain(*extras) or type(block) is not Block:
            raise ModelError(f"its {tower} has layers of another kind than SigLIP's (layer scale, q norm, …)")
    norms = [*norms, *(norm for block in blocks for norm in (block.norm1, block.norm2))]
    return {
        "hidden_size": int(blocks[0].norm1.normalized_shape[0]),
        "intermediate_size": blocks[0].mlp.fc1.out_features,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": blocks[0].attn.num_heads,
        "hidden_act": _activation([*acts, *(block.mlp.act for block in blocks)], tower),
        "layer_norm_eps": _eps(norms, tower),
    }


def activation(name: str, config: str) -> dict[str, Any]:
    """open_clip's keyword arguments for an activation of transformers' other than quick_gelu.

    Raises:
        ModelError: open_clip has no such activation; `config` names the field.
    """
    known: dict[str, dict[str, Any]] = {"gelu": {}, "gelu_pytorch_tanh": {"approximate": "tanh"}}
    if name not in known:
        raise ModelError(f"{config}={name!r}: open_clip computes quick_gelu, gelu and gelu_pytorch_tanh only")
    return known[name]


def _plain(*modules: nn.Module) -> bool:
    return all(isinstance(module, nn.Identity) for module in modules)


def _activation(modules: Sequence[nn.Module], tower: str) -> str:
    names = {_activation_name(module, tower) for module in modules}
    if len(names) > 1:
        raise ModelError(f"its {tower} has several activations ({', '.join(sorted(names))}), and may have one")
    return names.pop()


def _activation_name(module: nn.Module, tower: str) -> str:
    if isinstance(module, QuickGELU):
        return "quick_gelu"
    approximate = getattr(module, "approximate", "tanh" if type(module).__name__ == "GELUTanh" else None)
    if approximate == "none":
        return "gelu"
    if approximate == "tanh":
        return "gelu_pytorch_tanh"
    raise ModelError(f"its {tower} computes {type(module).__name__}, which transformers has under no name")


def _eps(norms: Sequence[nn.Module], tower: str) -> float:
    if not all(isinstance(norm, nn.LayerNorm) and norm.bias is not None for norm in norms):
        raise ModelError(f"its {tower} lacks a LayerNorm that the format wants, or normalises in another way")
    found = {float(norm.eps) for norm in norms}  # type: ignore[arg-type]
    if len(found) > 1:
        raise ModelError(f"its {tower} has LayerNorms of several eps ({sorted(found)}), and may have one")
    return found.pop()
