"""timm's SigLIP image encoders with the activation that the published weights learned with.

They were trained with GELU's approximation by tanh, as transformers' configuration of them says. timm builds the
sizes of the first SigLIP with exact GELU all the same, and open_clip, which calls timm by name, can't change it.
"""

from __future__ import annotations

from typing import Any

from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import timm  # noqa: E402 - torchvision has to be importable first
from timm.models import is_model, register_model  # noqa: E402

_MARK, _WITH_TANH = "_siglip_", "_siglip_tanh_"


def register_siglip_towers() -> None:
    """Makes timm know each SigLIP `vit_base_patch16_siglip_224` as `vit_base_patch16_siglip_tanh_224` too."""
    for name in timm.list_models(f"vit_*{_MARK}*"):
        twin = name.replace(_MARK, _WITH_TANH)
        if not computes_tanh(name) and "_gap_" not in name and not is_model(twin):
            register_model(_with_tanh(name, twin))


def computes_tanh(name: str) -> bool:
    """Whether the name is one of these, which timm alone does not know."""
    return _WITH_TANH in name


def _with_tanh(name: str, twin: str) -> Any:
    def build(
        pretrained: bool = False,
        pretrained_cfg: object = None,
        pretrained_cfg_overlay: object = None,
        cache_dir: object = None,
        **settings: Any,
    ) -> Any:
        """timm hands its own arguments to every entry: there are no weights of these names."""
        return timm.create_model(name, act_layer="gelu_tanh", **settings)

    build.__name__ = twin
    return build
