"""open_clip models as transformers' SiglipModel: timm's ViT pooled by attention, a text tower without a mask."""

from __future__ import annotations

from typing import Any

from open_clip.model import CustomTextCLIP
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer
from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from protoclip.contract.errors import ModelError
from protoclip.encoders.model import ClipModel

from .blocks import timm_blocks
from .clip_model import image_size, text_places, text_tower
from .weights import Place, attention, pair

KIND = "SiglipModel"


def is_siglip(module: nn.Module) -> bool:
    """Whether the towers' kinds are SigLIP's, so that what else differs is worth saying."""
    trunk = getattr(getattr(module, "visual", None), "trunk", None)
    return isinstance(module, CustomTextCLIP) and isinstance(
        getattr(trunk, "attn_pool", None), AttentionPoolLatent
    )


def siglip_config(clip: ClipModel) -> dict[str, Any]:
    """The towers' part of a SiglipModel's config.json, without the numbers of special tokens.

    Raises:
        ModelError: SiglipModel computes something else than this model; the message says what.
    """
    module: Any = clip.module
    if module.logit_bias is None:
        raise ModelError("it has no logit_bias, so it wasn't trained with the sigmoid loss")
    vision = _vision(module.visual)
    if vision["hidden_size"] != clip.embedding_dim:
        raise ModelError("its image embeddings are narrower or wider than its image encoder")
    return {
        "architectures": [KIND],
        "model_type": "siglip",
        "vision_config": {"model_type": "siglip_vision_model"} | vision,
        "text_config": {"model_type": "siglip_text_model"} | _text(module),
    }


def siglip_places(vision_layers: int, text_layers: int) -> list[Place]:
    """Where the weights stand."""
    trunk, theirs = "visual.trunk", "vision_model"
    pool, head = f"{trunk}.attn_pool", f"{theirs}.head"
    return [
        Place(("logit_scale",), ("logit_scale",), dims=1),
        Place(("logit_bias",), ("logit_bias",), dims=1),
        Place((f"{trunk}.pos_embed",), (f"{theirs}.embeddings.position_embedding.weight",), dims=2),
        *pair(f"{trunk}.patch_embed.proj", f"{theirs}.embeddings.patch_embedding"),
        *(place for layer in range(vision_layers) for place in _block(trunk, f"{theirs}.encoder", layer)),
        *pair(f"{trunk}.norm", f"{theirs}.post_layernorm"),
        Place((f"{pool}.latent",), (f"{head}.probe",)),
        *(
            Place((f"{pool}.q.{part}", f"{pool}.kv.{part}"), (f"{head}.attention.in_proj_{part}",))
            for part in ("weight", "bias")
        ),
        *pair(f"{pool}.proj", f"{head}.attention.out_proj"),
        *pair(f"{pool}.norm", f"{head}.layernorm"),
        *pair(f"{pool}.mlp.fc1", f"{head}.mlp.fc1"),
        *pair(f"{pool}.mlp.fc2", f"{head}.mlp.fc2"),
        *text_places("text.", text_layers),
        *pair("text.text_projection", "text_model.head"),
    ]


def _block(trunk: str, encoder: str, layer: int) -> list[Place]:
    ours, theirs = f"{trunk}.blocks.{layer}", f"{encoder}.layers.{layer}"
    return [
        *pair(f"{ours}.norm1", f"{theirs}.layer_norm1"),
        *pair(f"{ours}.norm2", f"{theirs}.layer_norm2"),
        *attention(f"{ours}.attn.qkv", f"{theirs}.self_attn", "."),
        *pair(f"{ours}.attn.proj", f"{theirs}.self_attn.out_proj"),
        *pair(f"{ours}.mlp.fc1", f"{theirs}.mlp.fc1"),
        *pair(f"{ours}.mlp.fc2", f"{theirs}.mlp.fc2"),
    ]


def _vision(visual: Any) -> dict[str, Any]:
    if not isinstance(visual, TimmModel) or type(visual.trunk) is not VisionTransformer or len(visual.head):
        raise ModelError("its image encoder is not timm's plain ViT, or ends in a projection")
    trunk: Any = visual.trunk
    pool = trunk.attn_pool
    identities = (trunk.norm_pre, trunk.fc_norm, trunk.head, trunk.patch_embed.norm, pool.q_norm, pool.k_norm)
    if trunk.num_prefix_tokens or not all(isinstance(part, nn.Identity) for part in identities):
        raise ModelError("its image encoder has a class token, or more layers than SigLIP's")
    if pool.pos_embed is not None or pool.latent_len != 1 or pool.num_heads != trunk.blocks[0].attn.num_heads:
        raise ModelError("its attention pooling differs from SigLIP's")
    fields = timm_blocks(trunk, [trunk.norm, pool.norm], [pool.mlp.act])
    if pool.mlp.fc1.out_features != fields["intermediate_size"]:
        raise ModelError("its attention pooling differs from SigLIP's")
    size, patch = image_size(trunk.patch_embed.img_size), image_size(trunk.patch_embed.patch_size)
    return fields | {"image_size": size, "patch_size": patch, "num_channels": 3}


def _text(module: Any) -> dict[str, Any]:
    fields = text_tower(module)
    tower: TextTransformer = module.text
    if tower.attn_mask is not None or tower.pool_type != "last":
        raise ModelError("its text encoder has a causal mask, or doesn't take the last token")
    if not isinstance(tower.text_projection, nn.Linear):
        raise ModelError("its text encoder ends in no projection, or in one without a bias")
    return fields | {"projection_size": tower.text_projection.out_features}
