"""Writes a folder that transformers loads as CLIPModel or SiglipModel, and sentence-transformers as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from protoclip.contract.errors import ModelError
from protoclip.contract.files import atomic_path, write_text
from protoclip.encoders.model import ClipModel

from .clip_model import KIND as CLIP
from .clip_model import clip_config, clip_places, end_token, text_prefix
from .converted import Converted
from .json_files import write_json
from .portable_tokenizer import padding_of, portable_tokenizer, special_names
from .processor_files import preprocessor_config, processor_config, tokenizer_config
from .sentence_transformers_files import write_sentence_transformers
from .siglip_model import KIND as SIGLIP
from .siglip_model import is_siglip, siglip_config, siglip_places
from .target import check_new, written_by
from .their_config import LEGACY_EOS
from .weights import Place, to_theirs

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PREPROCESSOR_FILE = "preprocessor_config.json"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"


def write_transformers(clip: ClipModel, out: Path) -> Converted:
    """Writes `clip` to the folder `out`, which is replaced only at the very end.

    Raises:
        ConfigError: `out` holds something else than a converted model.
        ModelError: neither CLIPModel nor SiglipModel computes what this model does; the message says why.
    """
    check_new(out, CONFIG_FILE)
    config, weights = _described(clip)
    kind = config["architectures"][0]
    fast = portable_tokenizer(clip.tokenizer_json, clip.text)
    tokens = _special_tokens(clip, fast, kind)
    config["text_config"] |= {"bos_token_id": None}
    config["text_config"] |= {f"{name}_token_id": number for name, (number, _) in tokens.items()}
    names = {name: token for name, (_, token) in tokens.items()}
    with atomic_path(Path(out).resolve()) as folder:
        folder.mkdir()
        save_file(weights, folder / WEIGHTS_FILE, {"format": "pt"})
        # infinity cuts texts to the first: where it is missing, transformers 4 says 20.
        more = {"max_length": clip.text.context_length, "dtype": "float32"}
        write_json(folder / CONFIG_FILE, config | more | written_by())
        write_json(folder / PREPROCESSOR_FILE, preprocessor_config(clip, kind))
        write_text(folder / TOKENIZER_FILE, fast.to_str())
        write_json(folder / TOKENIZER_CONFIG_FILE, tokenizer_config(clip, kind, names))
        write_json(folder / "special_tokens_map.json", {f"{name}_token": token for name, token in names.items()})
        write_json(folder / "processor_config.json", processor_config(kind))
        write_sentence_transformers(folder, kind, clip.text.context_length)
    return Converted(Path(out), kind, tuple(_notes(clip, kind)))


def _described(clip: ClipModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    siglip = is_siglip(clip.module)
    try:
        config = siglip_config(clip) if siglip else clip_config(clip)
        kind = config["architectures"][0]
        # CLIPModel has no bias; `_notes` says so.
        state = {name: value for name, value in clip.module.state_dict().items() if siglip or name != "logit_bias"}
        return config, to_theirs(state, _places(clip, config, siglip), kind)
    except ModelError as error:
        raise ModelError(
            f"{clip.model_name}: can't be written for transformers as a {SIGLIP if siglip else CLIP}: {error}"
        ) from error


def _places(clip: ClipModel, config: dict[str, Any], siglip: bool) -> Sequence[Place]:
    layers = config["vision_config"]["num_hidden_layers"], config["text_config"]["num_hidden_layers"]
    return siglip_places(*layers) if siglip else clip_places(*layers, text_prefix(clip.module))


def _special_tokens(clip: ClipModel, fast: Any, kind: str) -> dict[str, tuple[int, str]]:
    """bos, eos and pad, where there are such: number and name."""
    start, end = special_names(fast)
    number = fast.token_to_id(end)
    tokens = {"eos": (number, end)} | ({"bos": (fast.token_to_id(start), start)} if start else {})
    if kind == CLIP:
        _require_end(clip, number, end, max(fast.get_vocab(with_added_tokens=True).values()))
        # All behind it is masked, so that it may stand for padding too: 0, with which open_clip pads, is "!".
        return tokens | {"pad": (number, end)}
    pad, name, _ = padding_of(clip.tokenizer_json)
    special = fast.get_added_tokens_decoder()
    if pad not in special or special[pad].content != name or not special[pad].special:
        raise ModelError(
            f"{clip.model_name}: can't be written for transformers: its texts are padded with {name!r}, which its "
            "text encoder sees, and which is a word like others"
        )
    return tokens | {"pad": (pad, name)}


def _require_end(clip: ClipModel, number: int, end: str, last: int) -> None:
    """Raises ModelError where CLIPModel would take another token of a text than the model does.

    It takes the first `number`, the tokenizer's `end`; open_clip its own setting, or what has the largest number.
    """
    wanted = end_token(clip.module)
    if wanted is None and number != last:
        raise ModelError(f"{clip.model_name}: its texts end in {end!r}, which is not its tokenizer's last word")
    if wanted is not None and wanted != number:
        raise ModelError(
            f"{clip.model_name}: can't be written for transformers as a {CLIP}: its text encoder takes the "
            f"token {wanted} (text_cfg.eos_id), and its tokenizer's texts end in {number}, {end!r}"
        )
    if number == LEGACY_EOS != last:
        raise ModelError(
            f"{clip.model_name}: can't be written for transformers, which takes an end of the number {number} for "
            "the largest number"
        )


def _notes(clip: ClipModel, kind: str) -> list[str]:
    notes = []
    if kind == CLIP and clip.logit_bias is not None:
        notes.append(
            f"logit_bias {clip.logit_bias:.4g} is left out, since CLIPModel has none: embeddings are the same, "
            "but probabilities of single pairs can't be computed"
        )
    if clip.pixels.color_management != "stored":
        notes.append(
            "the model learned from pictures in sRGB, and transformers ignores colour profiles: convert pictures "
            "that have one first"
        )
    return notes
