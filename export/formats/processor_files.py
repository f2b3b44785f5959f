"""How transformers prepares pictures and texts for a model: preprocessor_config.json and tokenizer_config.json."""

from __future__ import annotations

from typing import Any

from protoclip.contract.errors import ModelError
from protoclip.contract.pixels import PixelSpec
from protoclip.encoders.model import ClipModel

from .clip_model import KIND as CLIP
from .clip_model import image_size
from .portable_tokenizer import padding_of

# Pillow's numbers of its resampling filters.
RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}


def preprocessor_config(clip: ClipModel, kind: str) -> dict[str, Any]:
    """The picture processor's settings.

    Raises:
        ModelError: a resize mode, or a shape, that transformers' processors have not.
    """
    crops = clip.pixels.resize == "shortest"
    return {
        # SiglipImageProcessor was without a crop until transformers 5.
        "image_processor_type": "CLIPImageProcessor" if crops or kind == CLIP else "SiglipImageProcessor",
        "processor_class": processor_class(kind),
        "do_convert_rgb": True,
        "do_resize": True,
        **_sizes(clip.pixels, clip.model_name),
        "resample": RESAMPLE[clip.pixels.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(clip.mean),
        "image_std": list(clip.std),
    }


def tokenizer_config(clip: ClipModel, kind: str, tokens: dict[str, str]) -> dict[str, Any]:
    """The tokenizer's settings; `tokens` are the names of bos, eos and pad."""
    # The class that takes tokenizer.json as it is: CLIPTokenizer of transformers 5 puts its own cleaning in place
    # of the file's. SigLIP's text encoder sees its padding, so that there is no mask.
    inputs = ["input_ids", "attention_mask"] if kind == CLIP else ["input_ids"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": processor_class(kind),
        "model_max_length": clip.text.context_length,
        "model_input_names": inputs,
        "padding_side": padding_of(clip.tokenizer_json)[2],
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": token for name, token in tokens.items()},
    }


def processor_config(kind: str) -> dict[str, Any]:
    """The pair of both."""
    return {"processor_class": processor_class(kind)}


def processor_class(kind: str) -> str:
    return "CLIPProcessor" if kind == CLIP else "SiglipProcessor"


def _sizes(pixels: PixelSpec, name: str) -> dict[str, Any]:
    try:
        side = image_size((pixels.height, pixels.width), "preprocessing")
    except ModelError as error:
        raise ModelError(f"{name}: can't be written for transformers: {error}") from error
    square = {"height": side, "width": side}
    if pixels.resize == "squash":
        return {"size": square, "do_center_crop": False}
    if pixels.resize == "longest":
        raise ModelError(
            f"{name}: can't be written for transformers: its pictures are padded to squares (resize mode "
            "'longest'), which CLIPImageProcessor does not do"
        )
    return {"size": {"shortest_edge": side}, "do_center_crop": True, "crop_size": square}
