"""The names by which Immich knows its models for smart search, with their dimensions.

Immich's server reads from the name how many numbers its database has to hold, and asks by that name:
`CLIP_MODEL_INFO` in server/src/constants.ts of https://github.com/immich-app/immich, of autumn 2026.
"""

from __future__ import annotations

from serving.gateway.errors import Refused

DIMENSIONS: dict[int, tuple[str, ...]] = {
    512: (
        "ViT-B-32__openai",
        "RN101__openai",
        "RN101__yfcc15m",
        "ViT-B-16__laion400m_e31",
        "ViT-B-16__laion400m_e32",
        "ViT-B-16__openai",
        "ViT-B-32__laion2b-s34b-b79k",
        "ViT-B-32__laion2b_e16",
        "ViT-B-32__laion400m_e31",
        "ViT-B-32__laion400m_e32",
        "XLM-Roberta-Base-ViT-B-32__laion5b_s13b_b90k",
        "XLM-Roberta-Large-Vit-B-32",
    ),
    640: (
        "RN50x4__openai",
        "ViT-B-16-plus-240__laion400m_e31",
        "ViT-B-16-plus-240__laion400m_e32",
        "XLM-Roberta-Large-Vit-B-16Plus",
    ),
    768: (
        "ViT-L-14__openai",
        "LABSE-Vit-L-14",
        "RN50x16__openai",
        "ViT-B-16-SigLIP-256__webli",
        "ViT-B-16-SigLIP-384__webli",
        "ViT-B-16-SigLIP-512__webli",
        "ViT-B-16-SigLIP-i18n-256__webli",
        "ViT-B-16-SigLIP2__webli",
        "ViT-B-16-SigLIP__webli",
        "ViT-B-32-SigLIP2-256__webli",
        "ViT-L-14-336__openai",
        "ViT-L-14-quickgelu__dfn2b",
        "ViT-L-14__laion2b-s32b-b82k",
        "ViT-L-14__laion400m_e31",
        "ViT-L-14__laion400m_e32",
        "XLM-Roberta-Large-Vit-L-14",
        "nllb-clip-base-siglip__mrl",
        "nllb-clip-base-siglip__v1",
    ),
    1024: (
        "ViT-H-14__laion2b-s32b-b79k",
        "RN50__cc12m",
        "RN50__openai",
        "RN50__yfcc15m",
        "RN50x64__openai",
        "ViT-H-14-378-quickgelu__dfn5b",
        "ViT-H-14-quickgelu__dfn5b",
        "ViT-L-16-SigLIP-256__webli",
        "ViT-L-16-SigLIP-384__webli",
        "ViT-L-16-SigLIP2-256__webli",
        "ViT-L-16-SigLIP2-384__webli",
        "ViT-L-16-SigLIP2-512__webli",
        "ViT-g-14__laion2b-s12b-b42k",
        "XLM-Roberta-Large-ViT-H-14__frozen_laion5b_s13b_b90k",
    ),
    1152: (
        "ViT-SO400M-16-SigLIP2-256__webli",
        "ViT-SO400M-14-SigLIP-384__webli",
        "ViT-SO400M-14-SigLIP2-378__webli",
        "ViT-SO400M-14-SigLIP2__webli",
        "ViT-SO400M-16-SigLIP2-384__webli",
        "ViT-SO400M-16-SigLIP2-512__webli",
        "nllb-clip-large-siglip__mrl",
        "nllb-clip-large-siglip__v1",
    ),
    1536: ("ViT-gopt-16-SigLIP2-256__webli", "ViT-gopt-16-SigLIP2-384__webli"),
}
"""The first of each is the one that `protoclip convert --to immich` names."""
_DIMENSION_OF = {name: dimension for dimension, names in DIMENSIONS.items() for name in names}


def check_name(asked: str, model: str, embedding_dim: int) -> None:
    """Raises Refused where a model of `embedding_dim` numbers can't stand in under the name that Immich asks by.

    Args:
        asked: as Immich sends it; before a `/` may stand an organisation.
        model: the name of the model that is served, which is always taken.
        embedding_dim: D.
    """
    name = asked.rpartition("/")[2].replace(":", "_")
    if name == model or _DIMENSION_OF.get(name) == embedding_dim:
        return
    fitting = DIMENSIONS.get(embedding_dim)
    if fitting is None:
        way_out = f"Immich knows no model of that many, only of {', '.join(map(str, DIMENSIONS))}"
    else:
        way_out = f"choose one of as many in Immich's settings, such as {fitting[0]}"
    stores = _DIMENSION_OF.get(name)
    what = "is unknown here" if stores is None else f"stands for {stores} numbers in Immich"
    message = f"modelName={name[:64]!r} {what}, and {model} gives {embedding_dim}: {way_out}"
    raise Refused(404, "model_not_found", message)
